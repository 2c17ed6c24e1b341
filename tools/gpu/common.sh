# Shared by check, bench and profile: where things are, parts with time limits.
# shellcheck shell=bash disable=SC2034,SC2154

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
# The source tree, for the reference data and the nano model.
tree=${DSOCR_TREE:-$top}
# Programs: those of the bundle, whether this script lies in it or in the tree.
if [ -z "${BIN:-}" ]; then
	for BIN in "$top/bin" "$top/build/gpu-bundle/bin"; do
		[ -x "$BIN/dsocr-engine" ] && break
	done
fi
quick=${GPU_QUICK:-}
device=${DEVICE:-cuda:0}
out=${OUT:-$top/build/gpu-results}
scratch=${GPU_SCRATCH:-/tmp/dsocr-gpu}
python=${PYTHON:-python3}
began=$SECONDS
for dir in /usr/local/cuda/bin /opt/nvidia/nsight-compute/*; do
	[ -d "$dir" ] && PATH=$PATH:$dir
done
# All of it must be over by then; a part gets no more than what is left.
seconds=${GPU_SECONDS:-540}

die() { echo "$*" >&2; exit 1; }

[ -x "$BIN/dsocr-engine" ] || die "no programs in $BIN: run 'make gpu-bundle' or set BIN"
mkdir -p "$out" "$scratch" || die "cannot write to $out and $scratch"

tools=()
if [ -z "${DSOCR_CUDA_LIBRARY:-}" ] && [ -r "$BIN/gp_tools.so" ] && [ "$device" != cpu ]; then
	tools=(--tools "$BIN/gp_tools.so")
fi

# cuBLASLt lies in a Python package where no toolkit is installed.
if [ -z "${DSOCR_CUBLASLT:-}" ]; then
	for file in $("$python" -c '
import glob, site, sys
for d in dict.fromkeys(sys.path + site.getsitepackages()):
    for f in sorted(glob.glob(d + "/nvidia/*/lib/libcublasLt.so.1[23]"), reverse=True):
        print(f)' 2>/dev/null) /usr/local/cuda/lib64/libcublasLt.so.1[32] \
		/usr/local/cuda/targets/x86_64-linux/lib/libcublasLt.so.1[32]; do
		if [ -r "$file" ]; then
			export DSOCR_CUBLASLT=$file
			break
		fi
	done
fi

# Leaves with 77 when there is no device.
need_device() {
	local said
	if ! said=$("$BIN/bench_kernels" --quick --once --filter 'large product' --device "$device" 2>&1); then
		echo "$said"
		if grep -qE 'no CUDA(-capable)? device|no CUDA device can be used|insufficient' \
			<<<"$said"; then
			echo "no device: nothing was run"
			exit 77
		fi
		echo "the device cannot be used"
		exit 1
	fi
	echo "device: $(grep -m1 'times from' <<<"$said")"
	echo "cuBLASLt: ${DSOCR_CUBLASLT:-not found}"
}

# Reference data, unpacked once; without xz by Python.
need_golden() {
	golden=${GOLDEN:-$scratch/golden}
	[ -f "$golden/SHA256SUMS" ] && return 0
	if [ ! -d "$tree/test/golden" ]; then
		echo "no reference data: set DSOCR_TREE to the source tree"
		return 1
	fi
	if command -v xz >/dev/null; then
		"$tree/tools/golden/unpack" "$golden"
	else
		"$python" - "$tree/test/golden" "$golden" <<-'EOF'
			import glob, os, shutil, sys, tarfile
			os.makedirs(sys.argv[2], exist_ok=True)
			for f in sorted(glob.glob(sys.argv[1] + "/*.tar.xz")):
			    tarfile.open(f).extractall(sys.argv[2])
			shutil.copy(sys.argv[1] + "/SHA256SUMS", sys.argv[2])
		EOF
	fi
}

# The model of full size: 6.7 GB, in memory where it has room.
need_synth() {
	synth=${SYNTH:-}
	[ -n "$synth" ] && [ -f "$synth/config.json" ] && return 0
	local where=$scratch
	[ "$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 9000000 ] 2>/dev/null && where=/dev/shm
	synth=$where/dsocr-synth
	if [ ! -f "$synth/model.safetensors.index.json" ]; then
		mkdir -p "$synth/official" &&
			cp "$golden"/synth/official/*.json "$golden/tokenizer/tokenizer.json" "$synth/official/" &&
			"$BIN/dsocr-engine" synth --spec "$golden/synth" --seed 4 \
				--reference "$synth/official" --out "$synth" || return 1
	fi
}

left() { echo $((seconds - (SECONDS - began))); }

names=() results=() spent=() notes=()
passed=0 failed=0

add() { # name, result, seconds, note
	names+=("$1") results+=("$2") spent+=("$3") notes+=("$4")
}

# part NAME LIMIT COMMAND...: run it, at most so many seconds; go on whatever
# happens.  Its output goes to the log, its closing line into the table.
part() {
	local name=$1 limit=$2 start=$SECONDS rc text p f
	shift 2
	if [ -n "${GPU_ONLY:-}" ] && ! [[ $name =~ $GPU_ONLY ]]; then
		return 0
	fi
	[ -n "$quick" ] && limit=$((limit * 10)) # it may be an emulated device
	if [ "$(left)" -lt 5 ]; then
		add "$name" 'NOT RUN' 0 'no time left'
		return 0
	fi
	[ "$(left)" -lt "$limit" ] && limit=$(left)
	echo "== $name ($((SECONDS - began)) s): $*" >>"$log"
	timeout --kill-after=5 "$limit" "$@" >"$scratch/part" 2>&1
	rc=$?
	cat "$scratch/part" >>"$log"
	echo "-- exit status $rc, $((SECONDS - start)) s" >>"$log"
	text=$(tr '\r' '\n' <"$scratch/part")
	if [[ $text =~ .*(^|$'\n')([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
		p=${BASH_REMATCH[2]} f=${BASH_REMATCH[3]}
	else # cmocka
		p=$(grep -oE '\[  PASSED  \] [0-9]+' <<<"$text" | awk '{ n += $4 } END { print n + 0 }')
		f=$(grep -oE '\[  FAILED  \] [0-9]+ test' <<<"$text" | awk '{ n += $4 } END { print n + 0 }')
	fi
	if [ "$rc" -eq 124 ] || [ "$rc" -eq 137 ]; then
		f=$((f + 1))
		add "$name" FAILED $((SECONDS - start)) "stopped after $limit s; $p passed"
	elif [ "$rc" -ne 0 ] || [ "$f" -ne 0 ] || [ "$p" -eq 0 ]; then
		[ "$f" -eq 0 ] && f=1
		add "$name" FAILED $((SECONDS - start)) "status $rc, $p passed, $f failed: $(
			grep -m1 -E 'FAIL|ERROR|rror:|could not|cannot' <<<"$text" | cut -c1-110
		)"
	else
		add "$name" ok $((SECONDS - start)) "$p passed"
	fi
	passed=$((passed + p)) failed=$((failed + f))
	printf '%-34s %-8s %4d s  %s\n' "$name" "${results[-1]}" "${spent[-1]}" "${notes[-1]}"
}

table() {
	local i missing=0
	echo
	for i in "${!names[@]}"; do
		printf '%-34s %-8s %4d s  %s\n' "${names[$i]}" "${results[$i]}" "${spent[$i]}" "${notes[$i]}"
		[ "${results[$i]}" = 'NOT RUN' ] && missing=$((missing + 1))
	done
	[ "$missing" -gt 0 ] && echo "$missing parts were not run"
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] && [ "$missing" -eq 0 ]
}
