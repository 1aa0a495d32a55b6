//! `aigis call`.

use std::time::Duration;

use aigis_plugin_api::Value;

use super::arguments::{self, Argument};
use super::context::{self, Context};
use super::error::{CliError, Exit};
use crate::host::SkillInfo;
use crate::registry::{CORE_NAMESPACE, nearest};

/// How long a call waits when nobody said otherwise.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// Call a skill and print its result as JSON
///
/// Each ARG is read by the parameter's type: a text as it is, bytes as the text's UTF-8 bytes or `{"$bytes":
/// "<base64>"}`, numbers, `true`, `false` and characters as they are written, an enum's variant without fields by its
/// bare name, anything else as JSON. `null` is the missing value of an `Option`. `name=value` gives a parameter by name;
/// those after it must be given by name too.
#[derive(Debug, clap::Args)]
pub(super) struct CallArgs {
    /// The skill's full name, such as `greeter.greet`
    name: String,
    /// The arguments, by position or as `name=value`
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// Wait at most this long [default: 60]
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
    let values = values(
        &context::skills(&session)?,
        &args.name,
        &typed,
        args.json_args,
    )?;
    let timeout = args.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let result: Value = session.call_within(&args.name, values, timeout)?;
    ctx.write_value(&result)?;
    Ok(Exit::Ok)
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
