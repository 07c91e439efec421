#!/bin/sh
# Runs on node0: makes the job's ssh key, waits for the other nodes and starts the program, given as
# arguments, with the mpirun of the image.
#   AML_IMAGES_HOSTS               all nodes, separated by blanks, this one first
#   AML_IMAGES_PROCESSES_PER_NODE  ranks on each of them
set -eu

fail() {
    echo "$1" >&2
    exit "$2"
}

for tool in mpirun ssh ssh-keygen; do
    command -v "$tool" >/dev/null || fail "$tool is not in the image's PATH" 127
done

# The folder is shared by the nodes of this job only and goes away with it.
ssh-keygen -q -t ed25519 -N '' -C '' -f /aml-images/keys/id_ed25519
mv /aml-images/keys/id_ed25519.pub /aml-images/keys/authorized_keys
mkdir -p ~root/.ssh
cp /aml-images/launch/ssh_config ~root/.ssh/config
chmod 700 ~root/.ssh
chmod 600 ~root/.ssh/config

open_mpi_hosts=
hydra_hosts=
count=0
for host in $AML_IMAGES_HOSTS; do
    if [ "$count" -gt 0 ]; then
        tries=0
        until ssh "$host" true 2>/aml-images/ssh-errors; do
            tries=$((tries + 1))
            [ "$tries" -lt 150 ] || fail "$host does not answer over ssh: $(tail -n 1 /aml-images/ssh-errors)" 1
            sleep 0.2
        done
    fi
    open_mpi_hosts=$open_mpi_hosts${open_mpi_hosts:+,}$host:$AML_IMAGES_PROCESSES_PER_NODE
    hydra_hosts=$hydra_hosts${hydra_hosts:+,}$host
    count=$((count + 1))
done
ranks=$((count * AML_IMAGES_PROCESSES_PER_NODE))

# Ranks are not bound to cores: every container believes that it has the machine to itself, so all
# first ranks would end up on the same core. There is no InfiniBand between containers either.
version=$(mpirun --version 2>&1 || true)
case $version in
*"Open MPI"*)
    exec mpirun --allow-run-as-root --bind-to none --host "$open_mpi_hosts" -n "$ranks" "$@"
    ;;
*Intel*)
    exec mpirun -hosts "$hydra_hosts" -ppn "$AML_IMAGES_PROCESSES_PER_NODE" -n "$ranks" \
        -genv FI_PROVIDER tcp -genv I_MPI_FABRICS shm:ofi -genv I_MPI_PIN 0 "$@"
    ;;
*)
    fail "mpirun is neither Open MPI nor Intel MPI: $(echo "$version" | head -n 1)" 1
    ;;
esac
