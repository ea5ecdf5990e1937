#!/bin/sh
# Starts Valkey with one user, whose password is REDIS_PASSWORD. The configuration goes in by standard input: a password
# on the command line would be in the list of processes.
#
# Everything in here may be lost (the database is the truth), so nothing is saved. When memory is full, writes fail and
# are logged; evicting instead would end the sessions of agents at work, whenever a flood of new ones asks for room.
set -eu
: "${REDIS_PASSWORD:?run make env}"
password="$REDIS_PASSWORD"
unset REDIS_PASSWORD
exec valkey-server - <<EOF
bind * -::*
port ${REDIS_PORT:-6379}
dir /tmp
save ""
appendonly no
maxmemory ${REDIS_MAXMEMORY:-384mb}
maxmemory-policy noeviction
maxclients 2000
tcp-keepalive 60
user default off resetkeys resetchannels nopass -@all
user agent-mail on >$password ~am:* ~arq:* &am:* -@all +@read +@write +@connection +@pubsub +@scripting +@transaction +time -@dangerous -@admin
EOF
