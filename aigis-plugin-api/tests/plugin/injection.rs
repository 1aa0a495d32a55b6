//! `ctx` and `logger`, wherever they stand.

use std::path::Path;

use aigis_plugin_api::{Context, Logger, skills};

use crate::FakeHost;

#[skills]
pub mod injected {
    use super::*;

    pub fn everything(ctx: &Context) -> (String, u64, u32) {
        assert_eq!(ctx.home(), Path::new("/home/of/tests"));
        assert_eq!(ctx.data(), Path::new("/home/of/tests/data/tested"));
        (ctx.plugin().to_owned(), ctx.generation(), ctx.core_pid())
    }

    pub fn in_the_middle(
        first: &str,
        logger: &Logger,
        second: u8,
        _ctx: &Context,
        third: u8,
    ) -> u8 {
        logger.warn(format_args!("in the middle: {first}"));
        second - third
    }

    pub fn by_path(_: &aigis_plugin_api::Context, a: u8, _: &aigis_plugin_api::Logger) -> u8 {
        a
    }

    pub fn levels(logger: &Logger) {
        logger.debug("levels: debug");
        logger.info("levels: info");
        logger.warn("levels: warn");
        logger.error("levels: error");
        logger.log(aigis_plugin_api::LogLevel::Trace, "levels: trace");
    }

    pub fn from_a_thread(logger: &Logger) {
        let logger = logger.clone();
        let thread = std::thread::spawn(move || logger.info("from a thread"));
        thread.join().expect("no panic");
    }

    pub fn settings(ctx: &Context) -> Result<u64, aigis_plugin_api::SettingsError> {
        #[derive(serde::Deserialize)]
        struct Settings {
            start: u64,
        }
        ctx.settings::<Settings>().map(|settings| settings.start)
    }

    pub fn other_settings(ctx: &Context) -> Result<(), aigis_plugin_api::SettingsError> {
        #[derive(serde::Deserialize)]
        struct Settings {
            #[expect(dead_code, reason = "it is not there")]
            end: u64,
        }
        ctx.settings::<Settings>().map(drop)
    }
}

mod imported {
    aigis_plugin_api::import! {
        pub mod injected {
            fn in_the_middle(first: &str, second: u8, third: u8) -> u8;
        }
    }
}

#[test]
fn a_skill_knows_where_it_runs() {
    assert_eq!(
        FakeHost::shared().ask("injected.everything", ()),
        Ok(("tested".to_owned(), 3_u64, std::process::id()))
    );
}

#[test]
fn injected_parameters_stand_anywhere() {
    let host = FakeHost::shared();
    assert_eq!(
        host.ask("injected.in_the_middle", ("encoded", 7, 2)),
        Ok(5_u8)
    );
    assert_eq!(host.logged("in the middle: encoded").len(), 1);
    assert_eq!(imported::injected::in_the_middle("direct", 7, 3), Ok(4));
    assert_eq!(host.logged("in the middle: direct").len(), 1);
    assert_eq!(host.entered("injected.in_the_middle"), 1);
    assert_eq!(host.ask("injected.by_path", (3,)), Ok(3_u8));
}

#[test]
fn the_logger_writes_with_its_level() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("injected.levels", ()), Ok(()));
    let logged = host.logged("levels: ");
    let levels: Vec<_> = logged
        .iter()
        .map(|l| (l.level, l.message.as_str()))
        .collect();
    assert_eq!(
        levels,
        [
            (1, "levels: debug"),
            (2, "levels: info"),
            (3, "levels: warn"),
            (4, "levels: error"),
        ]
    );
    assert_eq!(host.ask("injected.from_a_thread", ()), Ok(()));
    assert_eq!(host.logged("from a thread").len(), 1);
}

#[test]
fn settings_are_typed() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("injected.settings", ()), Ok(100_u64));
    let failure = host
        .ask::<()>("injected.other_settings", ())
        .expect_err("misses a field");
    assert!(failure.message.contains("`tested`"), "{failure}");
    assert!(failure.message.contains("missing field `end`"), "{failure}");
}
