//! The forms that `launch` can have.

#![allow(
    dead_code,
    reason = "that they compile is the test; nothing is launched here"
)]

mod plain {
    #[aigis_plugin_api::launch]
    fn launch() {}
}

mod with_context {
    use aigis_plugin_api::Context;

    #[aigis_plugin_api::launch]
    fn launch(ctx: &Context) -> std::process::ExitCode {
        ctx.logger().info("launched");
        std::process::ExitCode::SUCCESS
    }
}

mod fallible {
    #[aigis_plugin_api::launch]
    fn launch(_: &aigis_plugin_api::Context) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

mod forever {
    type Never = std::convert::Infallible;

    #[aigis_plugin_api::launch]
    fn launch() -> Result<(), Never> {
        loop {
            std::thread::park();
        }
    }
}
