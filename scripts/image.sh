#!/bin/sh
# Builds both images with docker, podman or buildah, whichever is there: `make image`.
#
#   BASE=…    another base with Python 3.11 or newer (python:3.13-slim)
#   TAG=…     the tag of both (the version in pyproject.toml)
#   TOOL=…    docker, podman or buildah
#
# Arguments, such as --no-cache, go to that tool's `build`.
# The same checkout on the same base gives the same digest, from a cache or from nothing: no time of
# a build or of a commit is in it.
# Beside each image stands its list of parts, build/image/<name>.cdx.json.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

for tool in ${TOOL:-docker podman buildah}; do
    # A client whose daemon does not run is of no use.
    "$tool" info >/dev/null 2>&1 && break
    tool=
done
[ -n "$tool" ] || { say "one of docker, podman and buildah is needed, and none works here"; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
tag=${TAG:-$version}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
export SOURCE_DATE_EPOCH=315532800

labels="--label org.opencontainers.image.version=$version
    --label org.opencontainers.image.revision=$revision"

build() { # target name argument…
    target=$1 name=$2
    shift 2
    set -- --target "$target" --file Containerfile "$@"
    [ -z "${BASE:-}" ] || set -- "$@" --build-arg BASE="$BASE"
    # What this machine is told about package registries holds for the build as well.
    [ -z "${PIP_INDEX_URL:-}" ] || set -- "$@" --build-arg PIP_INDEX_URL="$PIP_INDEX_URL"
    if [ -n "${PIP_CERT:-}" ]; then
        set -- "$@" --secret id=authorities,src="$PIP_CERT" \
            --build-arg PIP_CERT=/etc/ssl/certs/ca-certificates.crt
    fi
    # shellcheck disable=SC2086 # of labels, which are without spaces
    case $tool in
        docker)
            docker build --output type=docker --tag "$name:$tag" $labels "$@" .
            ;;
        *)
            # Layers are kept so that the second target does not build the tools again. These two
            # would put the labels on each layer, and find one that was kept by another commit's
            # build as good: so labels come last.
            set -- --timestamp "$SOURCE_DATE_EPOCH" --format oci "$@"
            "$tool" build --layers --tag "$name:unlabelled" "$@" .
            echo "FROM localhost/$name:unlabelled" | "$tool" build --no-cache --file - \
                --timestamp "$SOURCE_DATE_EPOCH" --format oci --tag "$name:$tag" $labels build/image
            ;;
    esac
}

parts() { # name
    case $tool in
        buildah)
            container=$(buildah from --pull-never "localhost/$1:$tag")
            cp "$(buildah mount "$container")/opt/headwater/sbom.cdx.json" "build/image/$1.cdx.json"
            ;;
        *)
            container=$("$tool" create "$1:$tag")
            "$tool" cp "$container:/opt/headwater/sbom.cdx.json" "build/image/$1.cdx.json"
            ;;
    esac
    "$tool" rm "$container" >/dev/null
}

mkdir -p build/image
for pair in sidecar:headwater-sidecar operator:headwater; do
    say "building ${pair#*:}:$tag with $tool"
    build "${pair%%:*}" "${pair#*:}" "$@"
    parts "${pair#*:}"
done
