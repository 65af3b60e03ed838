#!/bin/sh
# Fills /opt/headwater: what the image build runs for each of its targets.
#
#   environment.sh packages LOCK       what is locked there, each file checked against its hash
#   environment.sh product COMMAND…    the product itself; each command has to start with that much.
#                                      What is to be in the image is in /image then
set -eu
python=/opt/headwater/bin/python
# Bytecode that an import leaves on the way would have the time of the build in it.
export PYTHONDONTWRITEBYTECODE=1

install() { /tools/bin/pip --python "$python" install --no-cache-dir --no-compile --disable-pip-version-check "$@"; }

# Not compared with the sources at each start, since nothing can change them; and with a fixed seed,
# because the order of a set of constants in the bytecode follows it.
compile() { PYTHONHASHSEED=0 "$python" -m compileall -q --invalidation-mode unchecked-hash "$1"; }

step=$1
shift
case $step in
    packages)
        install --require-hashes --only-binary :all: -r "$1"
        compile /opt/headwater/lib
        ;;
    product)
        install --no-index --no-deps /wheel/*.whl
        compile "$("$python" -c 'import headwater; print(*headwater.__path__)')"
        for command in "$@"; do /opt/headwater/bin/headwater "$command" --help >/dev/null; done
        # The list of parts, for whoever scans the image.
        /tools/bin/cyclonedx-py environment --output-reproducible --of JSON \
            -o /opt/headwater/sbom.cdx.json "$python"
        # With the times of a build in it, each image would be another one. Not every builder can
        # rewrite them, and none changes what is so already; a directory on the way has one, too.
        mkdir -p /image/opt
        cp -a /opt/headwater /image/opt
        find /image -exec touch --no-dereference --date=@315532800 {} +
        ;;
esac
