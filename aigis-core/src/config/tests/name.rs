use super::super::{NameError, PluginKind, PluginName};

#[test]
fn good_names_are_accepted() {
    for name in [
        "a",
        "Zeta",
        "0",
        "_x",
        "a.b-c_d",
        "a..b",
        "core2",
        &"n".repeat(64),
    ] {
        let checked: PluginName = name.parse().unwrap();
        assert_eq!(checked.as_str(), name);
        assert_eq!(checked.to_string(), name);
        let path: &std::path::Path = checked.as_ref();
        assert_eq!(path.components().count(), 1);
    }
}

#[test]
fn names_that_are_no_folder_names_are_refused() {
    for name in [
        ".", "..", "../x", "a/b", "/a", "-x", ".x", "a b", "a\\b", "a\0", "é", "a\n",
    ] {
        assert!(name.parse::<PluginName>().is_err(), "{name:?}");
    }
    assert_eq!("".parse::<PluginName>(), Err(NameError::Empty));
    let long = "n".repeat(65);
    assert!(matches!(
        long.parse::<PluginName>(),
        Err(NameError::TooLong { length: 65, .. })
    ));
    for name in ["core", "aigis"] {
        assert!(matches!(
            name.parse::<PluginName>(),
            Err(NameError::Reserved { .. })
        ));
    }
}

#[test]
fn serde_checks_names() {
    let name: PluginName = serde_json::from_str("\"zeta\"").unwrap();
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"zeta\"");
    let error = serde_json::from_str::<PluginName>("\"../x\"").unwrap_err();
    assert!(
        error.to_string().contains("must not contain '/'"),
        "{error}"
    );
}

#[test]
fn kinds_are_written_in_lower_case() {
    for kind in PluginKind::ALL {
        let text = kind.to_string();
        assert_eq!(serde_json::to_value(kind).unwrap(), text);
        assert_eq!(text.parse(), Ok(kind));
    }
    assert!("Core".parse::<PluginKind>().is_err());
}
