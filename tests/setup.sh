# Sourced by ./bench, ./check and ./demo, which set themselves up on a fresh Debian.
# shellcheck shell=sh

# need PACKAGE...: be root, and install what is missing.
need() {
    if [ "$(id -u)" != 0 ]; then
        echo "run $0 as root: it boots machines and makes network namespaces" >&2
        exit 1
    fi
    if ! dpkg-query --show --showformat='${db:Status-Status}\n' "$@" 2>/dev/null |
            awk '$1 != "installed" { bad = 1 } END { exit bad || NR < '"$#"' }'; then
        echo "installing what $0 needs" >&2
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    fi
}

# shellcheck disable=SC2034 # for those who source this
cache=${LAB_CACHE:-/var/cache/validator-supervisor-lab}
export PYTHONPATH="$PWD/tests/machine"
