#!/bin/sh
# Puts the one dump of $BACKUP_FOLDER into a database, all of it or nothing. What the dump has is replaced.
set -eu

set -- "$BACKUP_FOLDER"/*.dump
if [ "$#" -ne 1 ] || [ ! -f "$1" ]; then
    echo "there is not one dump in $BACKUP_FOLDER, but: $*" >&2
    exit 1
fi
pg_restore --clean --if-exists --no-owner --no-password --single-transaction --exit-on-error --dbname="$PGDATABASE" "$1"
echo "restored $(basename "$1")"
