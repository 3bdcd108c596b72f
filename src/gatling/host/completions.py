"""Scripts that let shells complete Gatling's commands, and where a server has them for all users.

Each asks for the words of cli/completing.py, with the command line up to the unfinished word.
"""

from __future__ import annotations

from pathlib import Path

BASH = """\
_gatling() {
    local IFS=$'\\n'
    COMPREPLY=($(gatling complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o nosort -F _gatling gatling
"""
ZSH = """\
#compdef gatling
_gatling() {
    local -a found
    found=("${(@f)$(gatling complete "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
    [[ -n ${found[1]} ]] || return 1
    if [[ ${found[1]} == *= ]]; then compadd -S '' -- $found; else compadd -- $found; fi
}
if [[ ${funcstack[1]} == _gatling ]]; then _gatling "$@"; else compdef _gatling gatling; fi
"""
FISH = """\
function __gatling_complete
    set -l words (commandline -opc)
    gatling complete $words[2..] (commandline -ct) 2>/dev/null
end
complete -c gatling -f -a '(__gatling_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

_SHARE = Path("/usr/local/share")
FILES = {
    _SHARE / "bash-completion/completions/gatling": BASH,
    _SHARE / "zsh/site-functions/_gatling": ZSH,
    _SHARE / "fish/vendor_completions.d/gatling.fish": FISH,
}
"""The directories of Debian's bash-completion, zsh and fish for files from outside packages."""
