//! Lists for people: plugins as a table, skills in groups.

use std::fmt::Write;
use std::time::Duration;

use crate::host::{PluginStatus, ProcessStatus, SkillInfo};

/// The columns of the table of plugins; the last has no width.
const TITLES: [&str; 7] = ["NAME", "KIND", "STATE", "PID", "RESTARTS", "GEN", "SOURCE"];

/// Returns the plugins as an aligned table, each with its error below it.
pub(super) fn plugins(statuses: &[PluginStatus]) -> String {
    let rows: Vec<[String; 7]> = statuses
        .iter()
        .map(|status| {
            [
                status.name.clone(),
                status.kind.to_string(),
                status.state.to_string(),
                status
                    .pid
                    .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                status.restarts.to_string(),
                status.generation.to_string(),
                one_line(&status.source),
            ]
        })
        .collect();
    let mut widths = TITLES.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    line(&mut text, &TITLES, &widths);
    for (row, status) in rows.iter().zip(statuses) {
        line(&mut text, row, &widths);
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
    text
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
    format!("  {which}: {}{runs}{restarts}\n", process.state)
}

fn line(text: &mut String, cells: &[impl AsRef<str>; 7], widths: &[usize; 7]) {
    let start = text.len();
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(text, "{:<width$}  ", cell.as_ref());
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
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
