#!/usr/bin/env bash
# Train on several devices of this machine, data-parallel, with MindSpore's own launcher.
#
#   bash scripts/train_distributed.sh 8 --device.target Ascend --config apple2orange
#   bash scripts/train_distributed.sh 2 --device.target GPU    --config apple2orange
#   bash scripts/train_distributed.sh 2 --device.target CPU    --config quickstart
#
# The first argument is the number of devices, all others go to train.py. Every device takes
# data.batch_size images per domain and step: N of them train as one does with N times as many.
# Ctrl-C finishes the step and saves. To go on: the same number of devices, --resume --output RUN;
# or another number, and a data.batch_size that keeps the images per step.
#
# Several machines: run msrun on each, as below, with --worker_num of all, --node_rank,
# --master_addr of the first, and a run folder that all can read.
set -euo pipefail
workers=${1:-}
if ! [[ $workers =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: bash scripts/train_distributed.sh DEVICES [flags of train.py]" >&2
    exit 2
fi
shift
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v msrun >/dev/null; then  # it starts the first `python` on PATH
    echo "error: no msrun on PATH; activate the environment that MindSpore is installed in" >&2
    exit 2
fi
port=${MASTER_PORT:-8118}
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "error: port $port is taken, perhaps by another training; set MASTER_PORT" >&2
    exit 2
fi
logs=${LOG_DIR:-runs/msrun_logs/$port}
mkdir -p "$logs"
rm -f "$logs"/worker_*.log "$logs"/scheduler.log
: >"$logs/worker_0.log"
export GLOG_v=${GLOG_v:-3}  # MindSpore's warnings while it connects are no news

# In a separate session: on Ctrl-C, or where the terminal is closed, msrun would kill the workers
# before they have saved.
setsid msrun --worker_num="$workers" --local_worker_num="$workers" \
    --master_port="$port" --log_dir="$logs" --join=True --tail_worker_log=0 \
    "$here/train.py" "$@" >"$logs/msrun.log" 2>&1 &
job=$!
status=0
stop() {
    status=$1
    kill -TERM $(cat "/proc/$job/task/$job/children") 2>/dev/null || true
}
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'stop 129' HUP  # but under nohup: bash cannot trap what was ignored before
(trap '' INT TERM HUP; tail -n +1 -F --pid=$job "$logs/worker_0.log" 2>/dev/null \
    | grep --line-buffered -v -e '\[INFO\] DISTRIBUTED' -e '^$') &
reader=$!

failed=0
while kill -0 $job 2>/dev/null; do
    wait $job && failed=0 || failed=1
done
wait $reader || true
if [ $status = 0 ] && [ $failed = 1 ]; then
    status=1
    grep -h -A2 '^ERROR: ' "$logs"/*.log | head -3 >&2 || true
    echo "not finished: all workers' output is in $logs" >&2
fi
exit $status
