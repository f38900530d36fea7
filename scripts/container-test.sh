#!/usr/bin/env bash
# Test the Dockerfile as root without a Docker engine: buildah builds the image, podman runs it (make container-test).
#
# The test checks that the image trains two iterations as an unknown user, on a read-only root file system and without a
# network, and writes only to its three volumes. SIGTERM to process 1 must save a checkpoint and exit with code 143, also
# during startup. The same command must then resume the run.
#
# Exit codes: 0 success; 1 the image fails; 3 this machine cannot do a step, which is named.
#
# BASE is the base image to pull. By default it is empty, and a bootstrapped Debian replaces it: this tests the steps of
# the Dockerfile, but not its base image. All files are in a folder in WORK (default: /var/tmp), which is removed at the
# end unless KEEP=1.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 3

BASE=${BASE:-}
WORK=${WORK:-/var/tmp}/gan-lab-container
MIRROR=${MIRROR:-http://deb.debian.org/debian}
LOG=$WORK/log
# Wheels, the layer with the installed packages, and its copy during the commit.
NEEDED_GB=25
STORAGE=(--root "$WORK/storage" --runroot "$WORK/state" --storage-driver overlay)
SHORT=(log.progress_bar=false data.source=sample)

say() { echo "container-test: $*"; }

# Exit with a code and a message, after the last lines of the log.
stop() {
  tail -n 25 "$LOG" >&2
  say "$2" >&2
  exit "$1"
}

# Run a step that does not depend on the image: its name, then its command.
machine() {
  say "$1"
  "${@:2}" >>"$LOG" 2>&1 || stop 3 "this machine cannot do the step '$1' (exit code 3: the image was not tested)"
}

tools() {
  local packages=(buildah podman runc conmon)
  [[ $BASE ]] || packages+=(debootstrap)
  for package in "${packages[@]}"; do
    command -v "$package" >/dev/null && continue
    export DEBIAN_FRONTEND=noninteractive
    apt-get update && apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "${packages[@]}"
    return
  done
}

room() {
  local free
  free=$(df --output=avail --block-size=1G "$WORK" | tail -n 1)
  echo "$free GB free below $WORK, $NEEDED_GB needed"
  ((free >= NEEDED_GB))
}

base_image() {
  if [[ $BASE ]]; then
    buildah "${STORAGE[@]}" pull "$BASE"
    return
  fi
  # KEEP=1 keeps the base image and the layers on top of it.
  buildah "${STORAGE[@]}" inspect localhost/gan-lab-base >/dev/null && return
  [[ -d $WORK/base/usr/bin ]] || debootstrap --variant=minbase --include=python3,python3-venv bookworm "$WORK/base" "$MIRROR" || return
  local container
  container=$(buildah "${STORAGE[@]}" from scratch) || return
  buildah "${STORAGE[@]}" copy --quiet "$container" "$WORK/base" / || return
  buildah "${STORAGE[@]}" commit --quiet --rm "$container" localhost/gan-lab-base
}

# Mount this machine's certificates, pip settings and the folders in these settings during the build. They are not part
# of the image.
package_index() {
  local path
  mkdir -p "$WORK/index"
  cp -L /etc/ssl/certs/ca-certificates.crt "$WORK/index/certificates.crt" || return
  {
    echo '[global]'
    python3 -m pip config list | sed -nE "s/^(global|install|:env:)\.([a-z-]+)='(.*)'$/\2 = \3/p" | awk '$1 != "cert" && !seen[$1]++'
    echo 'cert = /etc/ssl/certs/ca-certificates.crt'
  } >"$WORK/index/pip.conf"
  MOUNTS=(--volume "$WORK/index/certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro"
    --volume "$WORK/index/pip.conf:/etc/pip.conf:ro")
  while read -r path; do
    [[ ! -d $path ]] || MOUNTS+=(--volume "$path:$path:ro")
  done < <(grep -v '^cert' "$WORK/index/pip.conf" | grep -oE '/[^ ]+' | sed 's#^//*#/#; s#/simple/*$##')
  python3 -m pip download --quiet --no-deps --dest "$WORK/index" "$(grep '^filelock==' requirements.lock)"
}

build() {
  local chosen=${BASE:-localhost/gan-lab-base}
  TMPDIR=$WORK/tmp buildah "${STORAGE[@]}" build --layers --isolation chroot --network host --pull-never "${MOUNTS[@]}" \
    --build-arg "BASE=$chosen" --tag gan-lab . >>"$LOG" 2>&1 || stop 1 "the image does not build (exit code 1)"
}

engine() { podman --runtime runc --cgroup-manager cgroupfs "${STORAGE[@]}" "$@"; }

# Use the options of `make docker-train` without a network, and limits that only some machines need (nofile, nproc).
run() {
  engine run --network none --ulimit nofile=1024:20000 --ulimit nproc=4096:4096 --user 4321:4321 --shm-size 1g \
    --read-only --read-only-tmpfs=false --tmpfs /tmp \
    --volume "$WORK/runs:/runs" --volume "$WORK/data:/data" --volume "$WORK/cache:/cache" "$@" >>"$LOG" 2>&1
}

volumes() {
  rm -rf "$WORK/runs" "$WORK/data" "$WORK/cache"
  mkdir -p "$WORK/runs" "$WORK/data" "$WORK/cache" && chown 4321:4321 "$WORK/runs" "$WORK/data" "$WORK/cache"
}

trains() {
  say "the image trains two iterations"
  run --name two gan-lab train cgan run.id=two run.images=128 log.wandb=offline "${SHORT[@]}" ||
    stop 1 "the image cannot train as an unknown user on a read-only root"
  [[ -s $WORK/runs/cgan/two/summary.json ]] || stop 1 "the run is not in the volume /runs"
  [[ -d $WORK/cache/decoded ]] || stop 1 "the decoded data are not in the volume /cache"
  local changed
  changed=$(engine diff two) || stop 3 "this machine cannot do the step 'podman diff' (exit code 3)"
  changed=$(grep -vE '^C /(etc|run|tmp|runs|data|cache)$|^[AC] /(etc/(hosts|hostname|resolv.conf|mtab)|run/\.containerenv)$' <<<"$changed")
  [[ ! $changed ]] || stop 1 "the image writes outside of its volumes: $changed"
}

# Start a long training, wait for a condition, stop the container like `docker stop`, and check the exit code.
ends() {
  local name=$1 code
  say "SIGTERM: $2"
  run --detach --name "$name" gan-lab train cgan run.id=long run.images=100_000_000 log.wandb=off log.log_every_images=64 "${SHORT[@]}" ||
    stop 1 "the image does not start detached"
  for _ in {1..240}; do
    "${@:3}" && break
    sleep 0.5
  done
  engine stop --time 60 "$name" >>"$LOG" 2>&1
  code=$(engine inspect --format '{{.State.ExitCode}}' "$name")
  engine logs "$name" >>"$LOG" 2>&1
  [[ $code == 143 ]] || stop 1 "SIGTERM ended the image with $code instead of 143: $2"
}

resumes() { engine logs again 2>&1 | grep -q 'Resuming .*runs/cgan/long from iteration'; }

clean() {
  engine rm --all --force --time 1 >/dev/null 2>&1
  [[ -z ${KEEP:-} ]] || return
  buildah "${STORAGE[@]}" rm --all >/dev/null 2>&1
  umount --lazy "$WORK/storage/overlay" 2>/dev/null
  rm -rf "$WORK"
}

mkdir -p "$WORK/tmp" || exit 3
: >"$LOG"
trap 'rm -rf "$WORK"' EXIT
machine "run as root" test "$(id -u)" = 0
trap clean EXIT
machine "buildah, podman and runc are installed" tools
machine "free disk space" room
machine "a base image" base_image
machine "the package index answers" package_index
say "the Dockerfile builds (takes minutes: torch with CUDA)"
build
machine "volumes" volumes
machine "podman starts a container" run --rm --entrypoint /bin/true gan-lab
trains
ends early "while it is starting" sleep 2
ends late "in training" test -s "$WORK/runs/cgan/long/metrics.csv"
[[ -s $WORK/runs/cgan/long/checkpoints/last.ckpt ]] || stop 1 "SIGTERM left no checkpoint"
ends again "once more, after the same command has resumed the run" resumes
resumes || stop 1 "the same command does not resume the run"
say "all checks passed"
