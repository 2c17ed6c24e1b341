#!/usr/bin/env python3
"""What ncu --csv --page raw wrote, as a table: a line for each kernel launch."""

import csv
import sys

SHORT = {
    "gpu__time_duration.sum": "us",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "DRAM %",
    "dram__bytes.sum": "DRAM MB",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "SM %",
    "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active": "tensor %",
    "sm__inst_executed_pipe_tensor.sum": "tensor instructions",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps %",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum": "bank conflicts",
    "launch__registers_per_thread": "registers",
}
TO = {"nsecond": ("us", 1e-3), "ns": ("us", 1e-3), "usecond": ("us", 1), "us": ("us", 1),
      "msecond": ("us", 1e3), "ms": ("us", 1e3), "byte": ("DRAM MB", 1e-6),
      "Kbyte": ("DRAM MB", 1e-3), "Mbyte": ("DRAM MB", 1), "Gbyte": ("DRAM MB", 1e3)}


def number(text, unit):
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return text
    value *= TO.get(unit, ("", 1))[1]
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def main():
    header = units = None
    printed = None
    with open(sys.argv[1], encoding="utf-8", errors="replace") as f:
        for row in csv.reader(line for line in f if line.startswith('"')):
            if "Kernel Name" in row:
                header, units = row, None
                continue
            if header is None or len(row) != len(header):
                continue
            if units is None:
                units = row
                continue
            cell = dict(zip(header, zip(row, units)))
            columns = [h for h in header if h in SHORT]
            if not columns:  # sections in place of metrics: whatever is in per cent
                columns = [h for h in header if dict(zip(header, units))[h] == "%"][:8]
            if printed != columns:
                names = ["kernel", "grid"] + [SHORT.get(h, h) for h in columns]
                print("\n| " + " | ".join(names) + " |\n|" + " --- |" * len(names))
                printed = columns
            name = cell["Kernel Name"][0].split("(")[0][:60]
            grid = cell.get("Grid Size", ("", ""))[0]
            print(f"| {name} | {grid} | " + " | ".join(number(*cell[h]) for h in columns) + " |")


if __name__ == "__main__":
    main()
