//! The types of a tool's table: commands and flags with their help texts and defaults.

/// A tool: its commands, and the manners in which etcd's tools differ from each other.
pub struct Tool<A: 'static> {
    /// The tool itself, with the flags that every command takes.
    pub root: Command<A>,
    /// Headings under which the root's help shows commands, in this order; none: one list.
    pub groups: &'static [&'static str],
    /// Closes every help text; empty for nothing.
    pub hint: &'static str,
    /// Whether help begins with the description of the command.
    pub describes: bool,
    /// Whether help of a command lists the flags of the root.
    pub lists_global: bool,
    /// Whether an error in the command line is said before the usage and again after it.
    pub repeats_errors: bool,
}

/// A command, its flags and its subcommands. Subcommands stand in the order of their names, as
/// help shows them.
pub struct Command<A: 'static> {
    /// The word that calls it.
    pub name: &'static str,
    /// Name and arguments as help shows them.
    pub usage: &'static str,
    /// One line.
    pub short: &'static str,
    /// The text of its own help, empty if the line says all.
    pub long: &'static str,
    /// Lines of examples in its help, empty for none.
    pub example: &'static str,
    /// The words that its one argument may be; empty: anything.
    pub values: &'static [&'static str],
    /// The heading under which the root's help shows it, empty for none.
    pub group: &'static str,
    /// Flags of this command alone.
    pub flags: &'static [Flag],
    /// Flags of this command and those below it.
    pub persistent: &'static [Flag],
    /// The commands below it.
    pub children: &'static [Command<A>],
    /// Whether help leaves the word for flags out of the usage.
    pub hides_flags: bool,
    /// What it does; a command without it shows its help.
    pub action: Option<A>,
}

impl<A> Command<A> {
    /// A command in which everything is empty, for the fields that an entry does not name.
    pub const NONE: Self = Self {
        name: "",
        usage: "",
        short: "",
        long: "",
        example: "",
        values: &[],
        group: "",
        flags: &[],
        persistent: &[],
        children: &[],
        hides_flags: false,
        action: None,
    };
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, or `=true` and `=false`.
    Bool,
    /// A text.
    Text,
    /// Texts separated by commas; given twice, both count.
    List,
    /// A number of 64 bits.
    Int,
    /// A number of 64 bits that is not negative.
    Uint,
    /// A duration like `5s`.
    Duration,
}

/// A flag.
#[derive(Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// The letter that stands for it after one dash.
    pub short: Option<char>,
    /// What it takes.
    pub kind: Kind,
    /// Its value when it is not given, as text.
    pub default: &'static str,
    /// What help says about it.
    pub usage: &'static str,
    /// What help shows for the value, with a blank before it, where it is not the kind's own word;
    /// empty: the kind's.
    pub placeholder: &'static str,
    /// The values that shells offer; empty: none are known.
    pub choices: &'static [&'static str],
}

impl Flag {
    /// A flag without a letter.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        usage: &'static str,
    ) -> Self {
        Self {
            name,
            short: None,
            kind,
            default,
            usage,
            placeholder: "",
            choices: &[],
        }
    }

    /// A flag of yes and no that is off unless given.
    pub const fn switch(name: &'static str, usage: &'static str) -> Self {
        Self::new(name, Kind::Bool, "false", usage)
    }

    /// A flag that takes a text.
    pub const fn text(name: &'static str, default: &'static str, usage: &'static str) -> Self {
        Self::new(name, Kind::Text, default, usage)
    }

    /// A flag that takes a number.
    pub const fn int(name: &'static str, default: &'static str, usage: &'static str) -> Self {
        Self::new(name, Kind::Int, default, usage)
    }

    /// The same with a letter.
    #[must_use]
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// The same with values that shells offer.
    #[must_use]
    pub const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    /// The same with another word for its value in help.
    #[must_use]
    pub const fn placeholder(mut self, word: &'static str) -> Self {
        self.placeholder = word;
        self
    }
}
