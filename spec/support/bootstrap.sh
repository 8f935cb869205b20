# shellcheck shell=bash disable=SC2034
# What spec/run, spec/fuzz/run and examples/quickstart share: packages and build. Sourced by bash, in the root of the checkout.

packages_to_build=(
  build-essential cmake pkg-config
  libpq-dev libuv1-dev libluajit-5.1-dev lua-luv lua-luv-dev libcjson-dev libsodium-dev
  libmicrohttpd-dev libncurses-dev
  luajit postgresql
)
packages_to_test=("${packages_to_build[@]}" lua-busted lua-check lua-cjson libcmocka-dev clang-format util-linux valgrind
  pgbouncer curl graphicsmagick lua-socket lua-curl lowdown iproute2 iptables prometheus tmux)
# The drivers that languages_spec.lua uses, which only `spec/run --all` runs.
packages_for_languages=(golang-go golang-github-lib-pq-dev ruby-pg python3-psycopg python3-psycopg2)
packages_to_fuzz=("${packages_to_test[@]}" clang libclang-rt-dev)

fail() {
  echo "$0: $*" >&2
  exit 1
}

# Prints those of the packages that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# Runs a command as root.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

# Installs packages with apt. On Debian the first Postgres on a machine comes with a cluster that is started at once and
# at every boot; whoever only wants to build and test did not ask for one.
apt_install() {
  local no_cluster=""
  if [ -n "$(missing_packages postgresql-common)" ]; then
    no_cluster=/etc/postgresql-common/createcluster.d/pgq-lua.conf
    as_root mkdir -p "${no_cluster%/*}"
    echo "create_main_cluster = false" | as_root tee "$no_cluster" >/dev/null
  fi
  # Nor for a pgbouncer or a Prometheus that runs.
  local policy=""
  if [[ " $* " =~ " "(pgbouncer|prometheus)" " && ! -e /usr/sbin/policy-rc.d ]]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
  fi
  local status=0
  as_root apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null || status=$?
  [ -z "$policy" ] || as_root rm -f "$policy"
  if [ -n "$no_cluster" ]; then
    as_root rm -f "$no_cluster"
    as_root rmdir "${no_cluster%/*}" 2>/dev/null || true
  fi
  return "$status"
}

# The same things by what can be seen of them, for systems without dpkg.
present_without_dpkg() {
  local tool
  for tool in cc cmake pkg-config luajit psql; do
    command -v "$tool" >/dev/null || return 1
  done
  pkg-config --exists libpq libuv luajit libcjson libsodium libmicrohttpd ncursesw
}

# install_packages PACKAGE…: makes sure that they are there; takes no time when they are.
install_packages() {
  local missing
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    present_without_dpkg && return
    fail "this is not Debian; install what is called there: $*"
  fi
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  echo "Installing ${missing[*]}"
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    fail "neither root nor sudo; install these first: ${missing[*]}"
  fi
  apt_install "${missing[@]}" || fail "apt-get could not install ${missing[*]}"
}

# Installs what languages_spec.lua needs. A machine with a newer Node than Debian's has npm with it.
install_languages() {
  install_packages "${packages_for_languages[@]}"
  command -v npm >/dev/null || install_packages nodejs npm
}

# build FOLDER OPTION…: configures with the CMake options and builds.
build() {
  local folder=$1
  shift
  cmake -S . -B "$folder" "$@"
  cmake --build "$folder" --parallel "$(getconf _NPROCESSORS_ONLN)"
}
