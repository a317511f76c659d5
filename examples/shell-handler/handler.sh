#!/bin/sh
# The handler of one operation. It gets the params as PARAM_<name>, the entity's
# fields as FIELD_<name>, and OP_ID, OP_TARGET and ATTEMPT. Each line that it prints
# is a field to set, as name=value. Exit code 0: done; 75: try again later; any
# other: it cannot be done, and the last line on stderr says why.
set -eu

case "$OP_TYPE" in
count_words)
	[ -n "${PARAM_text:-}" ] || { echo "there is no text" >&2; exit 65; }
	echo "words=$(printf '%s' "$PARAM_text" | wc -w | tr -d ' ')"
	echo "letters=$(printf '%s' "$PARAM_text" | tr -cd '[:alpha:]' | wc -c | tr -d ' ')"
	echo "counted=$(( ${FIELD_counted:-0} + 1 ))"
	;;
wait_for_printer)
	if [ "$ATTEMPT" -lt 3 ]; then
		echo "the printer is busy" >&2
		exit 75
	fi
	echo "printed=true"
	;;
*)
	echo "there is no handler for $OP_TYPE" >&2
	exit 64
	;;
esac
