#!/bin/sh
# Starts the processes of one node, each with its LOCAL_RANK and RANK; the program is given as arguments.
# Ends when all of them have ended, or with the first that fails.
#   NODE_RANK         number of this node, from 0
#   LOCAL_WORLD_SIZE  processes on this node
set -eu

failure=$AML_IMAGES_OUTPUTS/.failure
trap 'exit "$(cat "$failure")"' USR1
LOCAL_RANK=0
while [ "$LOCAL_RANK" -lt "$LOCAL_WORLD_SIZE" ]; do
    RANK=$((NODE_RANK * LOCAL_WORLD_SIZE + LOCAL_RANK))
    export LOCAL_RANK RANK
    {
        "$@" || {
            echo $? >"$failure"
            kill -s USR1 $$
        }
    } &
    LOCAL_RANK=$((LOCAL_RANK + 1))
done
wait
