//! Large values over a session, and their limit.

use aigis_plugin_api::{CallError, skill_type};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::plugins;

const LARGE: &str = include_str!("fixtures/skills/large.rs");

/// As the plugin has it.
#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    /// One byte each.
    pub(crate) pixels: Vec<u8>,
    /// One number each.
    pub(crate) weights: Vec<f32>,
}

aigis_plugin_api::import! {
    mod large {
        fn echo(data: &[u8]) -> Vec<u8>;
        fn double(numbers: &[f64]) -> Vec<f64>;
        fn zeros(count: usize) -> Vec<u8>;
    }
}

fn too_large<T: std::fmt::Debug, E: std::fmt::Debug>(outcome: Result<T, CallError<E>>) -> String {
    match outcome {
        Err(CallError::TooLarge { message, .. }) => message,
        other => panic!("expected a value that is too large, found {other:?}"),
    }
}

#[test]
fn large_values_come_back_and_those_over_the_limit_are_refused() {
    let home = TestHome::new();
    plugins::core(&home, "large", LARGE);
    home.config("[core]\nlarge = { source = \"{sources}/large\", max_message = \"1 MiB\" }\n");
    let core = Core::start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    session.scope(|| {
        // Often enough that they travel in every way.
        for round in 0..12_usize {
            for len in [0, 100, 30_000, 200_000, (1 << 20) - 20] {
                let data: Vec<u8> = (0..len).map(|place| (place * 31 + round) as u8).collect();
                assert!(large::echo(&data).expect("answers") == data, "{len} bytes");
            }
            let numbers: Vec<f64> = (0..100_000).map(|n| f64::from(n) * 0.1).collect();
            let doubled = large::double(&numbers).expect("answers");
            assert!(
                doubled
                    .iter()
                    .zip(&numbers)
                    .all(|(two, one)| *two == 2.0 * one)
            );
            assert_eq!(doubled.len(), numbers.len());
        }
        for refused in [
            too_large(large::echo(&vec![7; 1 << 20])),
            too_large(large::echo(&vec![7; 30 << 20])),
            too_large(large::zeros(2 << 20)),
        ] {
            assert!(refused.contains("large."), "{refused}");
            assert!(refused.contains("at most 1048576"), "{refused}");
            assert!(refused.contains("MAX_MESSAGE"), "{refused}");
        }
        assert_eq!(large::zeros(1000).as_deref(), Ok(&[0; 1000][..]));
    });
    let picture = Picture {
        pixels: (0..300_000).map(|place| place as u8).collect(),
        weights: (0..10_000_u16).map(f32::from).collect(),
    };
    let mut expected = picture.clone();
    expected.pixels.reverse();
    expected.weights.reverse();
    assert_eq!(session.call("large.reverse", (picture,)), Ok(expected));
    // Without an import the core alone knows the limit.
    let refused = session.call::<Vec<u8>>("large.echo", (vec![7_u8; 1 << 20],));
    assert!(too_large(refused).contains("the arguments of large.echo"));
    drop(session);
    core.signal("TERM");
    core.wait().exited(0);
}
