#!/bin/sh
# Dumps a database into $BACKUP_FOLDER, and reads the whole dump back before it gets its name.
# Server, user, password and database are those of PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.
set -eu
umask 077

name="$PGDATABASE-$(date -u +%Y%m%dT%H%M%SZ).dump"
part="$BACKUP_FOLDER/.$name"
rm -f "$BACKUP_FOLDER"/*.dump "$BACKUP_FOLDER"/.*.dump

pg_dump --format=custom --no-owner --no-password --file="$part"
tables=$(pg_restore --list "$part" | grep -c ' TABLE DATA ' || true)
if [ "$tables" -eq 0 ]; then
    echo "the dump of $PGDATABASE has no tables; has MLflow ever started with this database?" >&2
    exit 1
fi
# The list is at the front: only this reads and unpacks the rows.
pg_restore --file=/dev/null "$part"
mv "$part" "$BACKUP_FOLDER/$name"
echo "$name: $tables tables, $(wc -c <"$BACKUP_FOLDER/$name") bytes"
