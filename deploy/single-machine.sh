#!/usr/bin/env bash
# One machine, no containers: a Prefect server, a worker and, on request, Dask, all on loopback.
#
#   deploy/single-machine.sh up [--dask]   start what does not run yet, and register deployments
#   deploy/single-machine.sh status        say what runs; exit code 0 only if all of it is healthy
#   deploy/single-machine.sh down          end it, and what it started
#   deploy/single-machine.sh restart [--dask]
#
# Settings, all optional, by the environment:
#
#   SEGFLOW_PORT          port of the server and its page (4200)
#   PREFECT_HOME          database, logs and process ids (.prefect beside this folder)
#   SEGFLOW_GPUS          slots of the limit segflow-gpu (number of GPUs, at least 1)
#   SEGFLOW_ALARM_BLOCK   id of a notification block: alarms are sent there (README.md, "Alarms")
#   SEGFLOW_DASK_PORT     port of the Dask scheduler (8786)
#   SEGFLOW_DASK_WORKERS  Dask workers (number of cores)
#   SEGFLOW_START_SECONDS patience with each part that starts (180)
#   SEGFLOW_STOP_SECONDS  patience with each part that ends, before it is killed (60)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
repository=$(dirname "$here")
readonly here repository
readonly POOL=segflow HOST=127.0.0.1
readonly PARTS=(server dask-scheduler dask-worker worker)

say() { printf '%s\n' "$*"; }
die() {
  printf 'single-machine: %s\n' "$*" >&2
  exit 1
}

[[ -x $repository/.venv/bin/prefect ]] && PATH=$repository/.venv/bin:$PATH
command -v prefect >/dev/null || die "no prefect in .venv or on the path: run \`make venv\` first"
# The interpreter that prefect itself runs on.
python=$(dirname "$(command -v prefect)")/python
[[ -x $python ]] || python=python3

export PREFECT_HOME=${PREFECT_HOME:-$repository/.prefect}
mkdir -p "$PREFECT_HOME/segflow"
PREFECT_HOME=$(cd "$PREFECT_HOME" && pwd -P)
state=$PREFECT_HOME/segflow
readonly state

# --- What the parts are told -------------------------------------------------------------------

set_environment() { # PORT
  port=$1
  export PREFECT_API_URL=http://$HOST:$port/api
  # Nothing calls home.
  export DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
  export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false
  # By default any page open in a browser on this machine may use the API, and so start programs.
  export PREFECT_SERVER_CORS_ALLOWED_ORIGINS=http://$HOST:$port,http://localhost:$port
  # Prefect's least: automations.yaml finds dead runs by heartbeats that stay away.
  export PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30
  dask_port=${SEGFLOW_DASK_PORT:-$(recorded dask-port 8786)}
  dask_address=tcp://$HOST:$dask_port
}

recorded() { # NAME DEFAULT
  cat "$state/$1" 2>/dev/null || printf '%s' "$2"
}

# --- Processes ---------------------------------------------------------------------------------

born() { # PID: when it started, so that a number used again is not taken for the same process
  if [[ -d /proc/self ]]; then
    # The second field, the name, may hold spaces and brackets.
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
  else
    ps -o lstart= -p "$1" 2>/dev/null
  fi
}

alive() { # PID BORN
  [[ -n $2 && $(born "$1" || true) == "$2" ]] && ! is_zombie "$1"
}

is_zombie() { # PID
  [[ $(ps -o stat= -p "$1" 2>/dev/null) == Z* ]]
}

runs() { # PART
  local pid birth
  { read -r pid && read -r birth; } 2>/dev/null <"$state/$1.pid" && alive "$pid" "$birth"
}

pid_of() { head -n 1 "$state/$1.pid"; }

descendants() { # PID: "PID BORN" of it and of all below it
  ps -A -o pid= -o ppid= | awk -v root="$1" '
    { parent[$1] = $2 }
    END {
      for (pid in parent)
        for (at = pid; at in parent; at = parent[at])
          if (at == root) { print pid; break }
    }' | while read -r pid; do printf '%s %s\n' "$pid" "$(born "$pid")"; done
}

start() { # PART COMMAND...
  local part=$1 log=$state/$1.log
  shift
  [[ -f $log ]] && mv -f "$log" "$log.1"
  # A session of its own, so that closing the terminal or Ctrl-C there does not end it. Shells leave
  # SIGINT ignored in what they start in the background; flow runs would inherit that.
  (cd "$repository" && exec "$python" -c '
import os, signal, sys
os.setsid()
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' "$@") </dev/null >"$log" 2>&1 9>&- &
  printf '%s\n%s\n' $! "$(born $!)" >"$state/$part.pid"
  disown
}

wait_for() { # PART COMMAND...: until the command succeeds
  local part=$1 patience=${SEGFLOW_START_SECONDS:-180} end
  shift
  end=$((SECONDS + patience))
  until "$@"; do
    if ! runs "$part"; then
      log_tail "$part"
      die "the $part ended while it started"
    elif ((SECONDS > end)); then
      log_tail "$part"
      stop "$part"
      die "the $part is not healthy after $patience s"
    fi
    sleep 0.5
  done
}

log_tail() { # PART
  say "--- the last lines of $state/$1.log" >&2
  tail -n 25 "$state/$1.log" >&2 || true
  say "---" >&2
}

stop() { # PART
  local part=$1 patience=${SEGFLOW_STOP_SECONDS:-60} pid birth tree end
  if ! runs "$part"; then
    rm -f "$state/$part.pid"
    return
  fi
  pid=$(pid_of "$part")
  # Before the first signal: children of a process that has ended are nobody's.
  tree=$(descendants "$pid")
  kill -TERM "$pid" 2>/dev/null || true
  end=$((SECONDS + patience))
  while any_alive "$tree" && ((SECONDS < end)); do sleep 0.2; done
  while read -r pid birth; do
    if alive "$pid" "$birth"; then kill -KILL "$pid" 2>/dev/null || true; fi
  done <<<"$tree"
  rm -f "$state/$part.pid"
  say "$part: ended"
}

any_alive() { # TREE
  local pid birth
  while read -r pid birth; do
    alive "$pid" "$birth" && return 0
  done <<<"$1"
  return 1
}

# --- Questions ---------------------------------------------------------------------------------

api() { # METHOD PATH [BODY]: the answer, or nothing and a failure
  "$python" - "$@" <<'PY'
import base64, os, sys, urllib.request

method, path, body = (*sys.argv[1:], None)[:3]
headers = {"Content-Type": "application/json"}
if secret := os.environ.get("PREFECT_API_AUTH_STRING"):
    headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
url = f"{os.environ['PREFECT_API_URL']}{path}"
request = urllib.request.Request(url, body and body.encode(), headers, method=method)
try:
    # No proxy: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    print(opener.open(request, timeout=10).read().decode())
except (OSError, ValueError):
    sys.exit(1)
PY
}

taken() { # PORT
  (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null
}

server_healthy() { [[ $(api GET /health) == true ]]; }

worker_online() {
  # Its last sign of life must be younger than its process: a killed one stays ONLINE for a while.
  api POST "/work_pools/$POOL/workers/filter" '{}' | "$python" -c '
import datetime, json, os, sys
since = os.path.getmtime(sys.argv[1])
for worker in json.load(sys.stdin):
    seen = worker["last_heartbeat_time"] or "1970-01-01T00:00:00Z"
    if worker["name"] == sys.argv[2] and worker["status"] == "ONLINE":
        sys.exit(datetime.datetime.fromisoformat(seen).timestamp() < since)
sys.exit(1)' "$state/worker.pid" "$(worker_name)" 2>/dev/null
}

worker_name() { printf 'single-machine-%s' "$(uname -n)"; }

dask_workers() { # how many; a failure where no scheduler answers
  "$python" -c '
import sys
from distributed import Client
try:
    with Client(sys.argv[1], timeout="5s", set_as_default=False) as client:
        print(len(client.scheduler_info(n_workers=-1)["workers"]))
except OSError:
    sys.exit(1)' "$dask_address" 2>/dev/null
}

dask_scheduler_healthy() { dask_workers >/dev/null; }
dask_workers_healthy() { (($(dask_workers || echo 0) > 0)); }

# --- Commands ----------------------------------------------------------------------------------

up() {
  # Two of these at a time would start everything twice. The lock ends with this process.
  exec 9>"$state/lock"
  if command -v flock >/dev/null; then flock -w 300 9 || die "another \`up\` is at work"; fi
  start_server
  if [[ -n $dask ]]; then start_dask; fi
  register
  start_worker
  say
  status || die "not all of it is healthy"
  say
  say "In a shell that is to use it:"
  say "  export PREFECT_HOME=$PREFECT_HOME PREFECT_API_URL=$PREFECT_API_URL"
  say "Its page: http://$HOST:$port"
}

start_server() {
  local asked=${SEGFLOW_PORT:-}
  if runs server; then
    [[ -z $asked || $asked == "$(recorded port '')" ]] ||
      die "it runs on port $(recorded port '') already: call \`down\` before another port"
  else
    set_environment "${asked:-4200}"
    ! taken "$port" || die "port $port is taken by something that this script did not start:" \
      "end that, or choose another with SEGFLOW_PORT=4300"
    printf '%s\n' "$port" >"$state/port"
    say "server: preparing its database"
    prefect server database upgrade -y >"$state/database.log" 2>&1 || {
      log_tail database
      die "the database cannot be prepared"
    }
    say "server: starting"
    start server prefect server start --host "$HOST" --port "$port"
  fi
  wait_for server server_healthy
}

start_dask() {
  if ! runs dask-scheduler; then
    ! taken "$dask_port" || die "port $dask_port is taken by something that this script did not" \
      "start: end that, or choose another with SEGFLOW_DASK_PORT=8800"
    printf '%s\n' "$dask_port" >"$state/dask-port"
    say "dask-scheduler: starting"
    start dask-scheduler dask scheduler --host "$HOST" --port "$dask_port" \
      --dashboard-address "$HOST:0"
  fi
  wait_for dask-scheduler dask_scheduler_healthy
  if ! runs dask-worker; then
    say "dask-worker: starting"
    start dask-worker dask worker "$dask_address" --host "$HOST" --dashboard-address "$HOST:0" \
      --nworkers "${SEGFLOW_DASK_WORKERS:-$(cores)}" --nthreads 1 \
      --local-directory "${TMPDIR:-/tmp}"
  fi
  wait_for dask-worker dask_workers_healthy
}

register() {
  say "registering pool, limit, automations and deployments"
  # From the repository's root: it becomes the working directory of the runs.
  (cd "$repository" && SEGFLOW_GPUS=${SEGFLOW_GPUS:-$(gpus)} "$here/register.sh") \
    >"$state/register.log" 2>&1 </dev/null || {
    log_tail register
    die "registering failed"
  }
}

start_worker() {
  if ! runs worker; then
    say "worker: starting"
    if runs dask-scheduler; then export DASK_SCHEDULER_ADDRESS=$dask_address; fi
    # One run at a time: SQLite locks with more, and a training takes the whole machine.
    start worker prefect worker start --pool "$POOL" --type process --limit 1 \
      --name "$(worker_name)"
  fi
  wait_for worker worker_online
}

cores() { getconf _NPROCESSORS_ONLN; }

gpus() {
  local n=0
  if command -v nvidia-smi >/dev/null; then n=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true); fi
  # A limit of no slots would stop everything for ever.
  printf '%s' "$((n > 0 ? n : 1))"
}

down() {
  local part i
  # The worker first: it says on the server how its runs ended.
  for ((i = ${#PARTS[@]} - 1; i >= 0; i--)); do
    part=${PARTS[i]}
    if runs "$part"; then stop "$part"; else rm -f "$state/$part.pid"; fi
  done
  say "nothing runs"
}

status() {
  local healthy=0
  tell server server_healthy "healthy at http://$HOST:$port" || healthy=1
  if [[ -f $state/dask-scheduler.pid ]]; then
    tell dask-scheduler dask_scheduler_healthy "at $dask_address, for execute.on" || healthy=1
    tell dask-worker dask_workers_healthy "$(dask_workers || true) with the scheduler" || healthy=1
  else
    say "dask: not asked for; runs start their own (execute.on: local)"
  fi
  tell worker worker_online "online, waiting for runs of pool $POOL" || healthy=1
  if ((healthy == 0)); then
    say "runs: $(count Running) running, $(count Late) late"
  fi
  return "$healthy"
}

tell() { # PART QUESTION WORDS
  if ! runs "$1"; then
    say "$1: does not run"
    return 1
  fi
  if ! "$2"; then
    say "$1: runs (process $(pid_of "$1")) but is not healthy; see $state/$1.log"
    return 1
  fi
  say "$1: runs (process $(pid_of "$1")), $3"
}

count() { # STATE
  api POST /flow_runs/count "{\"flow_runs\": {\"state\": {\"name\": {\"any_\": [\"$1\"]}}}}"
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

command=${1:-}
dask=
case ${2:-} in
  '') ;;
  --dask) dask=1 ;;
  *) die "unknown option $2; there is only --dask" ;;
esac
set_environment "${SEGFLOW_PORT:-$(recorded port 4200)}"
case $command in
  up) up ;;
  down) down ;;
  status) status ;;
  restart)
    if runs dask-scheduler; then dask=1; fi
    down
    up
    ;;
  help | --help | -h) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
