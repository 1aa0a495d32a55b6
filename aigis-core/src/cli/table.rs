//! Lists for people: plugins as a table, skills in groups.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr as _;

use super::units;
use crate::host::{CoreStatus, PluginStatus, ProcessStatus, SkillInfo};

/// A column of the table of plugins.
struct Column {
    title: &'static str,
    cell: fn(&PluginStatus, Timestamp) -> Option<String>,
    /// Where there is too little room, the columns with the highest number go first; those with 0 stay.
    leaves: u8,
    /// It is there even if no plugin has anything in it.
    always: bool,
}

const COLUMNS: [Column; 11] = [
    column("NAME", 0, |it, _| Some(one_line(&it.name))),
    column("KIND", 5, |it, _| Some(it.kind.to_string())),
    column("STATE", 0, |it, _| Some(it.state.to_string())),
    column("PID", 2, |it, _| it.pid.map(|pid| pid.to_string())),
    column("RESTARTS", 3, |it, _| Some(it.restarts.to_string())),
    column("GEN", 6, |it, _| Some(it.generation.to_string())),
    measured("CPU", 0, |it, _| it.cpu_percent.map(units::percent)),
    measured("MEM", 0, |it, _| it.memory_bytes.map(units::size)),
    measured("UPTIME", 1, |it, now| {
        let started = it.started.as_deref()?;
        Some(units::age(units::since(started, now)?))
    }),
    measured("LAST EXIT", 4, |it, now| {
        let last = it.last_exit.as_ref()?;
        let short = last.exit.in_short();
        Some(match units::since(&last.at, now) {
            Some(time) => format!("{short}, {} ago", units::age(time)),
            None => short,
        })
    }),
    column("SOURCE", 7, |it, _| Some(one_line(&it.source))),
];

const fn column(
    title: &'static str,
    leaves: u8,
    cell: fn(&PluginStatus, Timestamp) -> Option<String>,
) -> Column {
    Column {
        title,
        cell,
        leaves,
        always: true,
    }
}

const fn measured(
    title: &'static str,
    leaves: u8,
    cell: fn(&PluginStatus, Timestamp) -> Option<String>,
) -> Column {
    Column {
        always: false,
        ..column(title, leaves, cell)
    }
}

/// Returns the plugins as an aligned table, each with what is special about it below it. On a terminal, columns are left
/// out that would be too much for its `width`.
pub(super) fn plugins(statuses: &[PluginStatus], width: Option<usize>) -> String {
    let mut text = String::new();
    for (row, line) in rows(statuses, width).into_iter().enumerate() {
        text.push_str(&line);
        text.push('\n');
        if let Some(status) = row.checked_sub(1).and_then(|index| statuses.get(index)) {
            below(&mut text, status);
        }
    }
    text
}

/// Returns the titles and the line of each plugin.
pub(super) fn rows(statuses: &[PluginStatus], width: Option<usize>) -> Vec<String> {
    let now = Timestamp::now();
    let mut columns: Vec<(u8, Vec<String>)> = Vec::new();
    for column in &COLUMNS {
        let cells: Vec<Option<String>> = statuses
            .iter()
            .map(|status| (column.cell)(status, now))
            .collect();
        if !column.always && cells.iter().all(Option::is_none) {
            continue;
        }
        let cells = cells
            .into_iter()
            .map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        let all = [column.title.to_owned()].into_iter().chain(cells);
        columns.push((column.leaves, all.collect()));
    }
    let wide = |cells: &[String]| cells.iter().map(|cell| cell.width()).max().unwrap_or(0);
    while let Some(most) = width {
        let all: usize = columns.iter().map(|(_, cells)| wide(cells) + 2).sum();
        let next = columns.iter().map(|(leaves, _)| *leaves).max();
        match next {
            Some(next) if next > 0 && all.saturating_sub(2) > most => {
                columns.retain(|(leaves, _)| *leaves != next);
            }
            _ => break,
        }
    }
    let mut lines = vec![String::new(); statuses.len() + 1];
    for (_, cells) in &columns {
        let width = wide(cells);
        for (line, cell) in lines.iter_mut().zip(cells) {
            let gap = width - cell.width() + 2;
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', gap));
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// Says in one line how the core is.
pub(super) fn core(core: &CoreStatus) -> String {
    let mut text = format!("aigis {}: process {}", one_line(&core.version), core.pid);
    let started = core.started.as_deref();
    if let Some(time) = started.and_then(|started| units::since(started, Timestamp::now())) {
        let _ = write!(text, ", up {}", units::age(time));
    }
    if let Some(percent) = core.cpu_percent {
        let _ = write!(text, ", {} CPU", units::percent(percent));
    }
    let _ = write!(text, ", {} memory", units::size(core.memory_bytes));
    text
}

/// Says what is special about a plugin.
fn below(text: &mut String, status: &PluginStatus) {
    for (index, message) in status.error.iter().flat_map(|e| e.lines()).enumerate() {
        let lead = if index == 0 { "error: " } else { "       " };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {lead}{}", one_line(message).trim_end());
    }
    if !status.in_config {
        text.push_str("  not in config\n");
    }
    if let Some(crash) = &status.crash {
        let told = one_line(&crash.told(&status.name));
        let times = match crash.count {
            1 => String::new(),
            count => format!(" ({count} times so far)"),
        };
        let _ = writeln!(text, "  crash: {told}{times}");
    }
    if let Some(isolation) = status.isolated {
        let _ = writeln!(
            text,
            "  isolated: its library runs in a process of its own, {}",
            isolation.reason()
        );
    }
    if !status.waits_for.is_empty() {
        let _ = writeln!(text, "  waits for: {}", status.waits_for.join(", "));
    }
    for process in &status.processes {
        if let Some(says) = &process.says {
            let _ = writeln!(text, "  says: {}", one_line(says));
        }
        if !process.waiting_for.is_empty() {
            let names: Vec<String> = process
                .waiting_for
                .iter()
                .map(ToString::to_string)
                .collect();
            let names = one_line(&names.join(", "));
            let _ = writeln!(text, "  stopping: waiting for {names}");
        }
    }
    // One alone stands in the line above.
    let several = status.processes.len() > 1;
    for process in status.processes.iter().filter(|_| several) {
        text.push_str(&one_of_several(process));
    }
    for process in &status.serving {
        let calls = match process.calls {
            1 => "1 call is".to_owned(),
            calls => format!("{calls} calls are"),
        };
        let _ = writeln!(
            text,
            "  serves: process {} on session {}, {calls} underway",
            process.pid, process.session
        );
    }
    for call in &status.overdue_calls {
        let _ = writeln!(
            text,
            "  overdue: `{}`, called by {} on session {}, runs on; nobody has waited for {:.1} s",
            one_line(&call.skill),
            one_line(&call.client),
            call.session,
            Duration::from_millis(call.overdue_ms).as_secs_f64(),
        );
    }
    for call in &status.slow_calls {
        let _ = writeln!(
            text,
            "  slow:  `{}` of generation {} has been running for {:.1} s on thread `{}`",
            one_line(&call.skill),
            call.generation,
            Duration::from_millis(call.age_ms).as_secs_f64(),
            one_line(&call.thread)
        );
    }
}

/// Says how one of several processes is.
fn one_of_several(process: &ProcessStatus) -> String {
    let which = match process.instance {
        Some(number) => format!("instance {number}"),
        None => "library".to_owned(),
    };
    let runs = match process.pid {
        Some(pid) => format!(", process {pid}"),
        None => String::new(),
    };
    let restarts = match process.restarts {
        0 => String::new(),
        1 => ", 1 restart".to_owned(),
        count => format!(", {count} restarts"),
    };
    let mut used = String::new();
    if let Some(percent) = process.cpu_percent {
        let _ = write!(used, ", {} CPU", units::percent(percent));
    }
    if let Some(bytes) = process.memory_bytes {
        let _ = write!(used, ", {}", units::size(bytes));
    }
    format!("  {which}: {}{runs}{used}{restarts}\n", process.state)
}

/// Returns the skills under the plugins that offer them, each with the first line of its documentation.
pub(super) fn skills(skills: &[SkillInfo]) -> String {
    let mut groups: Vec<(&str, Vec<&SkillInfo>)> = Vec::new();
    for skill in skills {
        match groups.iter_mut().find(|(name, _)| *name == skill.plugin) {
            Some((_, group)) => group.push(skill),
            None => groups.push((&skill.plugin, vec![skill])),
        }
    }
    let mut text = String::new();
    for (index, (plugin, group)) in groups.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "{plugin}");
        let width = group
            .iter()
            .map(|skill| skill.name.chars().count())
            .max()
            .unwrap_or(0);
        for skill in group {
            let absent = if skill.available {
                ""
            } else {
                "  (its process is not running)"
            };
            let (name, signature) = (&skill.name, &skill.signature);
            let _ = writeln!(text, "  {name:<width$}  {signature}{absent}");
            if let Some(first) = skill.doc.trim().lines().next() {
                let _ = writeln!(text, "      {}", one_line(first));
            }
        }
    }
    text
}

/// Returns text from elsewhere so that it stays on its line and does nothing else to a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(' '),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}
