#!/bin/sh
# Starts the processes of one node, each with its LOCAL_RANK and RANK; the program is given as arguments.
# Ends when all of them have ended, or with the first that fails.
#   NODE_RANK         number of this node, from 0
#   LOCAL_WORLD_SIZE  processes on this node
set -eu

failure=$AML_IMAGES_OUTPUTS/.failure
# Without the file, because the disk is full or the folder gone, a failure is one all the same.
trap 'code=$(cat "$failure" 2>/dev/null) || :; exit "${code:-1}"' USR1
LOCAL_RANK=0
while [ "$LOCAL_RANK" -lt "$LOCAL_WORLD_SIZE" ]; do
    RANK=$((NODE_RANK * LOCAL_WORLD_SIZE + LOCAL_RANK))
    export LOCAL_RANK RANK
    {
        "$@" || {
            echo $? >"$failure" || :
            kill -s USR1 $$
        }
    } &
    LOCAL_RANK=$((LOCAL_RANK + 1))
done
wait
