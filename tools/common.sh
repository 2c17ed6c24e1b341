# shellcheck shell=bash
# Shared by the scripts in this folder: packages, rights, scratch clusters.
# The caller has set -euo pipefail.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
export LC_ALL=C.UTF-8

say() {
	printf '%s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Run a command with the rights to install.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "this needs root or sudo: $*"
	fi
}

# PostgreSQL refuses to run as root: then the account "postgres", which comes
# with Debian's package, takes its place.
server_user() {
	if [ "$(id -u)" -eq 0 ]; then
		echo postgres
	else
		id -un
	fi
}

as_server_user() {
	if [ "$(id -u)" -eq 0 ]; then
		(cd / && runuser -u postgres -- "$@")
	else
		"$@"
	fi
}

packages_of() { # groups
	local group
	for group in "$@"; do
		awk -v group="$group" '$1 == group { print $2 }' "$top/tools/packages"
	done
}

# Install what is missing of some groups; silent where nothing is.
install_packages() { # groups
	local missing=() package log
	for package in $(packages_of "$@"); do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	command -v apt-get >/dev/null || die "install these packages first: ${missing[*]}"
	say "Installing ${#missing[@]} packages: ${missing[*]}"
	log=$(mktemp)
	if ! {
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y update &&
			as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
				-o Dpkg::Use-Pty=0 -o Dpkg::Lock::Timeout=120 \
				install --no-install-recommends "${missing[@]}"
	} >"$log" 2>&1 </dev/null; then
		tail -n 30 "$log" >&2
		rm -f "$log"
		die "the packages could not be installed"
	fi
	rm -f "$log"
}

# A scratch cluster under DIR: data, socket and log.  It has no TCP port, and
# the socket's folder is its own, so no other server can be in its way.
# Standard input is appended to postgresql.conf.  Started again if it exists.
cluster_start() { # dir, bindir
	local dir=$1 bin=$2
	if [ ! -f "$dir/data/PG_VERSION" ]; then
		as_server_user "$bin/initdb" --pgdata="$dir/data" --username=postgres --auth=trust \
			--encoding=UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1 ||
			{ cat "$dir/initdb.log" >&2; return 1; }
		{
			echo "listen_addresses = ''"
			echo "unix_socket_directories = '$dir'"
			echo "port = 5432"
			cat
		} | as_server_user tee -a "$dir/data/postgresql.conf" >/dev/null
	fi
	if ! as_server_user "$bin/pg_ctl" --pgdata="$dir/data" --log="$dir/server.log" \
		--wait --timeout=60 start >/dev/null 2>&1 </dev/null; then
		tail -n 20 "$dir/server.log" >&2
		return 1
	fi
}

cluster_running() { # dir, bindir
	as_server_user "$2/pg_ctl" --pgdata="$1/data" status >/dev/null 2>&1
}

cluster_stop() { # dir, bindir
	if cluster_running "$1" "$2"; then
		as_server_user "$2/pg_ctl" --pgdata="$1/data" --mode=fast --wait stop >/dev/null
	fi
}
