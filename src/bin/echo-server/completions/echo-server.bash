# Completes the arguments of echo-server in bash. Source this file, or install it as
# /usr/share/bash-completion/completions/echo-server.

_echo_server() {
    local flags='-4 -6 --reuse-port --console --step -v --verbose -q --quiet -h --help -V --version'
    local with_value='-c --max-connections -i --idle-timeout -b --buffer --backlog -g --grace --spin --timeline'
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    # In --timeline=FILE, the equals sign is a word.
    [[ $word == = ]] && word=
    [[ $previous == = ]] && previous=${COMP_WORDS[COMP_CWORD - 2]}
    COMPREPLY=()
    if [[ $previous == --timeline ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [[ " $with_value " == *" $previous "* ]]; then
        return
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags $with_value" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -A hostname -- "$word")
    fi
}
complete -F _echo_server echo-server
