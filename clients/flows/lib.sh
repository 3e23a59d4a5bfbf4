# Words that the flows of az are written in. What is compared is `az`'s own output.
set -eu -o pipefail
source "$RECIPE"

# is WANTED FOUND: they are equal.
is() {
    [ "$1" = "$2" ] && return
    echo "line ${BASH_LINENO[0]}: wanted: $1" >&2
    echo "found: $2" >&2
    exit 1
}

# eventually WANTED COMMAND…: its output becomes that, within five minutes: on a small machine each `az` takes many seconds.
eventually() {
    local wanted=$1 found= end=$((SECONDS + 300))
    shift
    while [ $SECONDS -lt $end ]; do
        found=$("$@")
        [ "$found" = "$wanted" ] && return
    done
    echo "line ${BASH_LINENO[0]}: never came to: $wanted" >&2
    echo "the last was: $found" >&2
    exit 1
}

# refused EXIT CODE COMMAND…: az ends with EXIT and tells the code.
refused() {
    local exit=$1 code=$2 told ended=0
    shift 2
    told=$("$@" 2>&1) || ended=$?
    is "$exit" "$ended"
    case $told in
    *"($code)"* | *"\"code\": \"$code\""*) ;;
    *) is "($code)" "$told" ;;
    esac
}
