#!/usr/bin/env bash
# Builds the images that are named, or all, of the commit that is checked out: images/build.sh [NAME ...]
# A tree with changes gives the tag COMMIT-changes: what has a commit's tag is of that commit.
# It deletes the folders build and dist first, and leaves the wheel that is in the images in dist.
#
# From the environment: DOCKER (docker), REGISTRY (a prefix of the names, with its slash), BASE and REQUIREMENTS (instead
# of a Dockerfile's own), CERTIFICATE (a file of authorities that pip shall trust), BUILD_OPTIONS (more for docker build).
# A wheel in images/wheels is preferred to the index's of the same version, such as a build of torch for CPUs.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(curate train evaluate serve trigger mlflow)
for name in "${names[@]}"; do
    [ -f "images/$name/Dockerfile" ] || { echo "no image is called $name; there are: $(cd images && echo */Dockerfile)"; exit 2; }
done

commit=$(git rev-parse HEAD)$([ -z "$(git status --porcelain)" ] || echo +changes)
# The commit's time, not this one's: the same commit gives the same labels and the same wheel.
created=$(TZ=UTC git show --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git show --no-patch --format=%ct)
# What an earlier build left would go into the wheel.
rm -rf build dist
"$python" -m pip wheel --quiet --no-deps --wheel-dir dist .
rm -rf build

options=(--build-arg "COMMIT=$commit" --build-arg "CREATED=$created" --secret "id=certificate,src=${CERTIFICATE:-/dev/null}")
[ -z "${BASE:-}" ] || options+=(--build-arg "BASE=$BASE")
[ -z "${REQUIREMENTS:-}" ] || options+=(--build-arg "REQUIREMENTS=$REQUIREMENTS")
for name in "${names[@]}"; do
    # A tag may hold no +.
    tag="${REGISTRY:-}sidlsg-$name:${commit/+/-}"
    # shellcheck disable=SC2086  # several options
    DOCKER_BUILDKIT=1 ${DOCKER:-docker} build ${BUILD_OPTIONS:-} "${options[@]}" \
        --file "images/$name/Dockerfile" --tag "$tag" .
    echo "built $tag"
done
