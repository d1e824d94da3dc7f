# Writes who may do what on the S3 server, with the keys that the environment has, and new keys of the server's own parts
# for each other. A change of a Secret counts when the pod starts again.
set -eu
umask 077
folder=$1

identities=
# NAME PREFIX ACTION... : the user whose keys are in the variables that begin with PREFIX.
identity() {
  name=$1 prefix=$2
  shift 2
  eval "id=\${${prefix}_AWS_ACCESS_KEY_ID:-} secret=\${${prefix}_AWS_SECRET_ACCESS_KEY:-}"
  for value in "$id" "$secret"; do
    case $value in
    '' | *[!A-Za-z0-9+/=_-]*)
      echo "error: a key of $name is empty or has other characters than letters, digits and +/=_-; set its Secret" >&2
      exit 1
      ;;
    esac
  done
  actions=$(printf ',"%s"' "$@")
  identities="$identities,{\"name\":\"$name\",\"credentials\":[{\"accessKey\":\"$id\",\"secretKey\":\"$secret\"}],\"actions\":[${actions#,}]}"
}

# Makes the buckets; a user of all of them, and of nothing else.
identity buckets BUCKETS Admin:backups Admin:data Admin:mlflow Admin:pipelines Admin:serving
# Pipeline steps and Kubeflow's launcher: inputs are read, and what a run keeps is written.
identity steps STEPS Read:data List:data 'Write:data/checkpoints/*' 'Write:data/handover/*' 'Write:data/work/*' \
  'Write:data/prompts/*' 'Write:data/images/*' \
  Read:pipelines List:pipelines Write:pipelines
identity mlflow MLFLOW 'Read:mlflow/artifacts/*' 'List:mlflow/artifacts/*' 'Write:mlflow/artifacts/*'
# Copies students, and looks whether a prompt set is another.
identity triggers TRIGGERS 'Read:serving/students/*' 'List:serving/students/*' 'Write:serving/students/*' \
  Read:data List:data
identity backups BACKUPS 'Read:backups/postgres/*' 'List:backups/postgres/*' 'Write:backups/postgres/*'
identity serving SERVING 'Read:serving/students/*' 'List:serving/students/*'
printf '{"identities":[%s]}\n' "${identities#,}" > "$folder/s3.json"

for section in jwt.signing jwt.signing.read jwt.filer_signing jwt.filer_signing.read; do
  printf '[%s]\nkey = "%s"\nexpires_after_seconds = 60\n' "$section" "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
done > "$folder/security.toml"
