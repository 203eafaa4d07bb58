#!/usr/bin/env bash
# What a Prefect server must know: the work pool, the limit on GPUs, the automations and, of
# prefect.yaml, the deployments. Run as often as one likes: what is there stays as it is, but for
# deployments and automations, which become what their files say.
#
#   PREFECT_API_URL=http://127.0.0.1:4200/api deploy/register.sh
#
# The folder it is called from becomes the working directory of the runs: relative paths in a run's
# settings start there. Settings, all optional, by the environment:
#
#   SEGFLOW_POOL_TYPE      type of the work pool (process)
#   SEGFLOW_JOB_TEMPLATE   base job template for the pool (the type's own)
#   SEGFLOW_GPUS           slots of the limit segflow-gpu (1)
#   SEGFLOW_ALARM_BLOCK    id of a notification block for alarms (README.md, "Alarms")
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
readonly here POOL=segflow LIMIT=segflow-gpu
# The interpreter that prefect itself runs on.
python=$(dirname "$(command -v prefect)")/python
[[ -x $python ]] || python=python3

# Only where there is none: --overwrite would undo what was changed on the server's page.
if ! prefect work-pool inspect "$POOL" >/dev/null 2>&1; then
  prefect --no-prompt work-pool create "$POOL" --type "${SEGFLOW_POOL_TYPE:-process}" --overwrite \
    ${SEGFLOW_JOB_TEMPLATE:+--base-job-template "$SEGFLOW_JOB_TEMPLATE"}
fi
if ! prefect gcl inspect "$LIMIT" >/dev/null 2>&1; then
  prefect --no-prompt gcl create "$LIMIT" --limit "${SEGFLOW_GPUS:-1}"
fi
"$python" "$here/apply_automations.py" "$here/automations.yaml"
prefect --no-prompt deploy --all --prefect-file "$here/../prefect.yaml"
