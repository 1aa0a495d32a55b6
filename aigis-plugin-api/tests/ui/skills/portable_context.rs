use aigis_plugin_api::skills;

#[skills]
pub mod office {
    use aigis_plugin_api::{Context, Logger};

    #[skill(portable)]
    pub fn who(ctx: &Context) -> String {
        ctx.plugin().to_owned()
    }

    #[skill(portable)]
    pub fn say(logger: &Logger, text: &str) {
        logger.info(text);
    }
}

fn main() {}
