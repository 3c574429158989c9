//! Completion in shells: what fits at the end of a line that is not finished.
//!
//! A shell asks the tool itself, by the hidden command `__complete` and the words so far, the last
//! of which may be empty. The answer is a line per candidate, with a tab and its description, and
//! at last a colon with a number that tells whether files fit too. That is the protocol of cobra,
//! so scripts that the official tools wrote work with ours; the scripts here are our own.
//!
//! Source: cobra v1.10.2 `completions.go`.

use crate::command::{Command, Flag, Kind, Tool};
use crate::line;

/// The hidden commands, and whether they describe candidates.
const REQUESTS: [(&str, bool); 2] = [("__complete", true), ("__completeNoDesc", false)];
/// Tells the shell to offer files.
const FILES: &str = ":0\n";
/// Tells the shell to offer nothing else.
const NO_FILES: &str = ":4\n";

/// The answer to a shell; none if the words are no question of one.
pub fn answer<A>(tool: &'static Tool<A>, words: &[String]) -> Option<String> {
    let (request, rest) = words.split_first()?;
    let (_, describes) = REQUESTS.iter().find(|(name, _)| name == request)?;
    let (last, before) = rest.split_last()?;
    // Older shells of Windows cannot pass an empty word.
    let last = if last == "\"\"" { "" } else { last };
    let (candidates, end) = candidates(tool, before, last);
    let mut text = String::new();
    for (name, description) in candidates {
        text += name.as_str();
        if *describes && !description.is_empty() {
            text += &format!("\t{}", description.lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    Some(text + end)
}

type Candidates = Vec<(String, &'static str)>;

fn candidates<A>(
    tool: &'static Tool<A>,
    before: &[String],
    last: &str,
) -> (Candidates, &'static str) {
    let path = line::reach(tool, before);
    let flags = line::flags_of(&path);
    let choices = |flag: &Flag, start: &str| -> Candidates {
        let fitting = flag
            .choices
            .iter()
            .filter(|choice| choice.starts_with(start));
        fitting.map(|choice| ((*choice).to_owned(), "")).collect()
    };
    if let Some((flag, start)) = last
        .strip_prefix("--")
        .and_then(|flag| flag.split_once('='))
    {
        let known = flags.iter().find(|known| known.name == flag);
        return (
            known.map(|flag| choices(flag, start)).unwrap_or_default(),
            FILES,
        );
    }
    let named = before.last().and_then(|word| flag_of(&flags, word));
    if let Some(flag) = named.filter(|flag| flag.kind != Kind::Bool) {
        let end = if flag.choices.is_empty() {
            FILES
        } else {
            NO_FILES
        };
        return (choices(flag, last), end);
    }
    if last.starts_with('-') && !before.iter().any(|word| word == "--") {
        let names = flags
            .iter()
            .map(|flag| (format!("--{}", flag.name), flag.usage));
        let mut fitting: Candidates = names.filter(|(name, _)| name.starts_with(last)).collect();
        fitting.sort_unstable();
        return (fitting, NO_FILES);
    }
    let command: &Command<A> = path[path.len() - 1];
    let children = command
        .children
        .iter()
        .map(|child| (child.name, child.short));
    let values = command.values.iter().map(|value| (*value, ""));
    let fitting = children
        .chain(values)
        .filter(|(name, _)| name.starts_with(last));
    let fitting: Candidates = fitting
        .map(|(name, text)| (name.to_owned(), text))
        .collect();
    let takes_words = command.children.is_empty() && command.values.is_empty();
    (fitting, if takes_words { FILES } else { NO_FILES })
}

fn flag_of(flags: &[&'static Flag], word: &str) -> Option<&'static Flag> {
    let is_it = |flag: &&&'static Flag| match word.strip_prefix("--") {
        Some(name) => flag.name == name,
        None => {
            let letter = word
                .strip_prefix('-')
                .and_then(|letter| letter.parse().ok());
            letter.is_some() && flag.short == letter
        }
    };
    flags.iter().find(is_it).copied()
}

/// The script that makes a shell ask the tool of this name; none for a shell that is not known.
pub fn script(shell: &str, tool: &str) -> Option<String> {
    let script = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        "powershell" => POWERSHELL,
        _ => return None,
    };
    Some(script.replace("TOOL", tool))
}

const BASH: &str = r#"# bash completion for TOOL

_TOOL() {
    local line="${COMP_LINE:0:COMP_POINT}" candidate
    local -a words
    read -ra words <<< "$line"
    if [[ "$line" == *[[:space:]] ]]; then
        words+=("")
    fi
    COMPREPLY=()
    while IFS= read -r candidate; do
        if [[ "$candidate" == :* ]]; then
            break
        fi
        COMPREPLY+=("${candidate%%$'\t'*}")
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}

complete -o default -F _TOOL TOOL
"#;

const ZSH: &str = r#"#compdef TOOL
# zsh completion for TOOL

_TOOL() {
    local -a candidates
    local line name text
    while IFS= read -r line; do
        if [[ "$line" == :* ]]; then
            break
        fi
        name="${line%%$'\t'*}"
        text="${line#*$'\t'}"
        candidates+=("${name//:/\\:}:${text}")
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#candidates} )); then
        _describe 'TOOL' candidates
    else
        _files
    fi
}

if [[ "${funcstack[1]}" == "_TOOL" ]]; then
    _TOOL "$@"
else
    compdef _TOOL TOOL
fi
"#;

const FISH: &str = r#"# fish completion for TOOL

function __TOOL_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    $words[1] __complete $words[2..-1] "$last" 2>/dev/null | string match -v ':*'
end

complete -c TOOL -e
complete -c TOOL -a '(__TOOL_complete)'
"#;

const POWERSHELL: &str = r#"# powershell completion for TOOL

Register-ArgumentCompleter -Native -CommandName 'TOOL' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    if ($wordToComplete -eq '') {
        $words += '""'
    }
    & 'TOOL' __complete @words 2>$null | Where-Object { $_ -notmatch '^:' } | ForEach-Object {
        $name, $text = $_ -split "`t", 2
        if (-not $text) {
            $text = $name
        }
        [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $text)
    }
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    static TOOL: Tool<()> = Tool {
        root: Command {
            name: "tool",
            persistent: &[Flag::text("form", "a", "how to write")
                .short('f')
                .choices(&["json", "text"])],
            children: &[
                Command {
                    name: "list",
                    short: "Lists",
                    flags: &[Flag::switch("long", "more")],
                    action: Some(()),
                    ..Command::NONE
                },
                Command {
                    name: "shell",
                    short: "Shells",
                    values: &["bash", "zsh"],
                    action: Some(()),
                    ..Command::NONE
                },
            ],
            ..Command::NONE
        },
        groups: &[],
        hint: "",
        describes: true,
        lists_global: false,
        repeats_errors: false,
    };

    fn check(line: &str, expected: &str) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(answer(&TOOL, &words).as_deref(), Some(expected), "{line}");
    }

    #[test]
    fn what_fits_is_offered_with_its_description() {
        check("__complete ", "list\tLists\nshell\tShells\n:4\n");
        check("__complete l", "list\tLists\n:4\n");
        check("__completeNoDesc s", "shell\n:4\n");
        check("__complete \"\"", "list\tLists\nshell\tShells\n:4\n");
        check("__complete shell z", "zsh\n:4\n");
        check("__complete list ", ":0\n");
        check("__complete list --l", "--long\tmore\n:4\n");
        check("__complete list --form j", "json\n:4\n");
        check("__complete -f t", "text\n:4\n");
        check("__complete list --form=t", "text\n:0\n");
        check("__complete list -- --l", ":0\n");
        check("__complete nonsense ", "list\tLists\nshell\tShells\n:4\n");
        assert_eq!(answer(&TOOL, &["list".to_owned()]), None);
    }

    #[test]
    fn scripts_bear_the_name_of_the_tool() {
        for shell in ["bash", "zsh", "fish", "powershell"] {
            let script = script(shell, "etcdctl").expect(shell);
            assert!(script.contains("etcdctl __complete") || script.contains("__complete"));
            assert!(!script.contains("TOOL"), "{shell}");
        }
        assert_eq!(script("tcsh", "etcdctl"), None);
    }
}
