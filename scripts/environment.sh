# Shared by the scripts beside it: the folder, the virtual environment, how they talk, and `--help`: the comment at the top
# of a script and its USAGE. Meant to be sourced.
set -euo pipefail
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; echo "Usage: ${USAGE:-scripts/${0##*/}}"; exit 0 ;;
esac
[ -z "${AML_IMAGES_REPO:-}" ] || AML_IMAGES_REPO=$(realpath -m "$AML_IMAGES_REPO")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=$ROOT/.venv
STATE=$ROOT/.aml-images
# A build starts many processes: without compiled files each of them would compile all that it imports.
unset PYTHONDONTWRITEBYTECODE
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/aml-images
# Where `services` unpacks a newer engine and its command on Debian 12; the machine's own come first.
ENGINE=$CACHE/engine
PATH=$PATH:$ENGINE/usr/sbin:$ENGINE/usr/bin

say() { if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then printf '\033[1m==> %s\033[0m\n' "$*"; else printf '==> %s\n' "$*"; fi; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

state_folder() { mkdir -p "$STATE"; [ -e "$STATE/.gitignore" ] || echo '*' >"$STATE/.gitignore"; }

# setting NAME DEFAULT: a setting of this machine, from the environment, .env of the repository of image folders, or its
# default.
setting() {
  local value=${!1:-} file=${AML_IMAGES_REPO:-$ROOT}/.env
  if [ -z "$value" ] && [ -f "$file" ]; then
    value=$(sed -nE "s/^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*//p" "$file" | tail -1 |
      sed -E "s/^\"([^\"]*)\".*/\1/; t; s/^'([^']*)'.*/\1/; t; s/[[:space:]]+#.*//; s/[[:space:]]+$//")
  fi
  echo "${value:-$2}"
}

# apt_install PACKAGE...: Debian packages, asked for without a question.
apt_install() {
  command -v apt-get >/dev/null || fail "install these first: $*"
  [ "$(id -u)" = 0 ] || fail "not root: run 'apt-get install $*' first"
  apt-get update -qq
  # RUNLEVEL=1 keeps the packages from starting services of their own.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# unpack_packages RELEASE ARCHITECTURE FOLDER PACKAGE...: packages of a release of Debian, verified by apt and unpacked into a
# folder. The folders of apt are its own, so that the machine's sources, pins and lists stay as they are. Debian 12 has the
# keys of later releases.
unpack_packages() {
  local release=$1 architecture=$2 target=$3 own mirror
  shift 3
  mirror=$(grep -rhoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
    head -1 | tr -d ' ' || true)
  [ -n "$mirror" ] || fail "apt has no mirror of Debian in /etc/apt, from which to unpack $*"
  own=$(mktemp -d)
  mkdir -p "$own"/{etc/apt.conf.d,etc/preferences.d,state/lists/partial,cache/archives/partial}
  cp /etc/apt/apt.conf.d/* "$own/etc/apt.conf.d/" 2>/dev/null || true # proxies
  : >"$own/status"
  cat >"$own/etc/sources.list" <<LIST
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main
LIST
  cat >"$own/apt.conf" <<CONF
APT::Architecture "$architecture";
APT::Architectures "$architecture";
Dir::Etc "$own/etc";
Dir::State "$own/state";
Dir::State::status "$own/status";
Dir::Cache "$own/cache";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
CONF
  (
    export APT_CONFIG=$own/apt.conf
    cd "$own" && apt-get update -qq && apt-get download -qq "$@" && mkdir unpacked || exit
    for file in ./*.deb; do dpkg-deb --extract "$file" unpacked || exit; done
  ) || { rm -rf "$own"; return 1; }
  mkdir -p "$target"
  cp -a "$own/unpacked/." "$target/"
  rm -rf "$own"
}

# python_environment LOCK: a virtual environment with what the lock file names, and this project. The lock file for
# development holds that for running too, so an environment for development is left as it is.
python_environment() {
  local lock=$1 installed
  installed=$(cat "$VENV/.installed" 2>/dev/null || true)
  for file in "$lock" requirements-dev.txt; do
    [ "$installed" != "$(stamp "$file")" ] || return 0
  done
  say "Python environment in .venv"
  if [ ! -x "$VENV/bin/python" ]; then
    python3 -m venv "$VENV" >/dev/null 2>&1 || { rm -rf "$VENV"; apt_install python3-venv; python3 -m venv "$VENV"; }
  fi
  [ -x "$VENV/bin/uv" ] || "$VENV/bin/pip" install --quiet --disable-pip-version-check uv
  rm -f "$VENV/.installed"
  "$VENV/bin/uv" pip sync --quiet --compile-bytecode --python "$VENV/bin/python" "$lock"
  "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --editable .
  stamp "$lock" >"$VENV/.installed"
}

stamp() { cat "$1" pyproject.toml | sha256sum | cut -d' ' -f1; }
