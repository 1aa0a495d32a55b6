//! `aigis call`.

use std::time::Duration;

use aigis_plugin_api::signature::Shape;
use aigis_plugin_api::{CallError, Stream, Value};

use super::arguments::{self, Argument};
use super::context::{self, Context};
use super::error::{CliError, Exit};
use crate::host::SkillInfo;
use crate::registry::{CORE_NAMESPACE, nearest};

/// How long a call waits when nobody said otherwise.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// Call a skill and print its result as JSON; of a stream each item, as it comes, on a line of its own
///
/// Each ARG is read by the parameter's type: a text as it is, bytes as the text's UTF-8 bytes or `{"$bytes":
/// "<base64>"}`, numbers, `true`, `false` and characters as they are written, an enum's variant without fields by its
/// bare name, anything else as JSON. `null` is the missing value of an `Option`. `name=value` gives a parameter by name;
/// those after it must be given by name too. A parameter that is a stream takes a list of its items.
#[derive(Debug, clap::Args)]
pub(super) struct CallArgs {
    /// The skill's full name, such as `greeter.greet`
    name: String,
    /// The arguments, by position or as `name=value`
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// Wait at most this long, for a stream until its end [default: 60, for a stream for each item]
    #[arg(long, value_name = "SECONDS", value_parser = super::seconds)]
    timeout: Option<Duration>,
    /// Read every ARG as JSON, whatever the parameter's type
    #[arg(long)]
    json_args: bool,
}

pub(super) fn run(args: &CallArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let session = ctx.session()?;
    let typed: Vec<Argument> = args
        .arguments
        .iter()
        .map(|text| Argument::of_command_line(text))
        .collect();
    let skills = context::skills(&session)?;
    let values = values(&skills, &args.name, &typed, args.json_args)?;
    if is_streaming(&skills, &args.name) {
        let items = match args.timeout {
            Some(timeout) => session.stream_within::<Value>(&args.name, values, timeout)?,
            None => session.stream(&args.name, values)?,
        };
        return print_items(items, ctx).map(|()| Exit::Ok);
    }
    let timeout = args.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let result: Value = session.call_within(&args.name, values, timeout)?;
    ctx.write_value(&result)?;
    Ok(Exit::Ok)
}

/// Tells whether the result of a skill is a stream.
pub(super) fn is_streaming(skills: &[SkillInfo], name: &str) -> bool {
    let skill = skills.iter().find(|skill| skill.name == name);
    skill.is_some_and(|skill| matches!(skill.types.result, Shape::Stream(_)))
}

/// Writes each item as it comes, on a line of its own.
pub(super) fn print_items(items: Stream<Value>, ctx: &mut Context) -> Result<(), CliError> {
    for item in items {
        let mut line = item.map_err(CallError::of_stream)?.to_json();
        line.push('\n');
        ctx.write(&line)?;
    }
    Ok(())
}

/// Reads the arguments that were typed for the skill `name`.
///
/// The core's own skills are not among `skills`; it checks what it is given itself.
///
/// # Errors
/// None of `skills` has that name, or the arguments do not fit its signature.
pub(super) fn values(
    skills: &[SkillInfo],
    name: &str,
    typed: &[Argument],
    all_json: bool,
) -> Result<Value, CliError> {
    let Some(skill) = skills.iter().find(|skill| skill.name == name) else {
        if name.split('.').next() == Some(CORE_NAMESPACE) {
            return Ok(arguments::guess(typed));
        }
        return Err(CliError::UnknownSkill {
            name: name.to_owned(),
            nearest: nearest(name, skills.iter().map(|skill| skill.name.as_str())),
        });
    };
    match arguments::read(&skill.types, typed, all_json) {
        Ok(values) => Ok(Value::List(values)),
        Err(error) => Err(CliError::Arguments {
            skill: name.to_owned(),
            signature: skill.signature.clone(),
            error: Box::new(error),
        }),
    }
}
