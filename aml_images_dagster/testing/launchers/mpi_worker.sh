#!/bin/sh
# Runs on node1 and the following: lets node0 in over ssh and gives its commands the environment that
# the image has, which sshd by itself does not pass on.
set -eu

sshd=$(command -v sshd || echo /usr/sbin/sshd)
if [ ! -x "$sshd" ]; then
    echo "sshd is not in the image's PATH" >&2
    exit 127
fi

mkdir -p /run/sshd ~root/.ssh
cp /aml-images/launch/ssh_config ~root/.ssh/config
env | grep -E '^[A-Za-z_][A-Za-z0-9_]*=' >~root/.ssh/environment
chmod 700 ~root/.ssh
chmod 600 ~root/.ssh/config ~root/.ssh/environment
ssh-keygen -q -t ed25519 -N '' -f /aml-images/host_key
exec "$sshd" -D -e -f /aml-images/launch/sshd_config
