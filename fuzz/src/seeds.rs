//! Writes the first inputs of the fuzz targets.

use std::fs;
use std::path::Path;

use aigis_plugin_api::__private::{
    Description, EnumShape, FieldShape, Parameter, Shape, Signature, SkillDescription, StructShape,
    VariantShape,
};
use aigis_plugin_api::abi::reader::Memory;
use aigis_plugin_api::abi::{Field, descriptor};
use aigis_plugin_api::codec::{self, Value};

#[path = "../../aigis-plugin-api/src/abi/reader/image.rs"]
mod image;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let own = image::own();
    aigis_plugin_api::abi::reader::check(&image::Image(&own), image::BASE)?;
    let seeds = [
        ("descriptor", own),
        ("description", codec::to_vec(&description())?),
    ];
    for (target, seed) in seeds {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("own"), seed)?;
    }
    for (target, name, seed) in of_sessions()? {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), seed)?;
    }
    Ok(())
}

/// What the protocol's vectors are made of, and some lives of a shared ring.
fn of_sessions() -> Result<Vec<(&'static str, String, Vec<u8>)>, Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol-vectors.json");
    let vectors = Value::from_json(&fs::read_to_string(path)?)?;
    let list = |name: &str| -> Vec<Vec<u8>> {
        let vectors = vectors.get(name).and_then(Value::as_list).expect("a list");
        let hex = vectors
            .iter()
            .filter_map(|vector| vector.get("hex")?.as_str());
        let digits = |hex: &str, at| u8::from_str_radix(&hex[at..at + 2], 16).expect("is hex");
        hex.map(|hex| {
            (0..hex.len())
                .step_by(2)
                .map(|at| digits(hex, at))
                .collect()
        })
        .collect()
    };
    let mut seeds = Vec::new();
    let frames = [
        list("frames"),
        list("malformed_frames"),
        list("broken_rules"),
    ]
    .concat();
    for (number, frame) in frames.iter().enumerate() {
        if let Some((kind, body)) = frame.get(4).zip(frame.get(17..)) {
            let body = [&[*kind], body].concat();
            seeds.push(("frame_body", format!("vector-{number:02}"), body));
        }
        let plan = [number as u8; 8];
        let stream = [&plan, &frame[..]].concat();
        seeds.push(("frame_stream", format!("vector-{number:02}"), stream));
    }
    let several = list("frames").concat();
    for (number, piece) in [0_u8, 1, 2, 3, 64, 255].into_iter().enumerate() {
        let stream = [&[piece; 8], &several[..several.len().min(2000)]].concat();
        seeds.push(("frame_stream", format!("several-{number}"), stream));
    }
    let values = [
        list("values"),
        list("malformed_values"),
        list("number_arrays"),
    ]
    .concat();
    for (number, value) in values.into_iter().enumerate() {
        seeds.push(("value", format!("vector-{number:03}"), value));
    }
    // Steps of `fuzz::ring`: put, take, attend at either end; then indices and words that are changed.
    let honest = [0, 40, 0, 0x81, 3, 0x83, 0x80, 0, 4, 1, 0x80, 9, 0, 1, 1];
    for number in 0..12 {
        let index = (number % 6) << 3;
        let mut steps = honest.repeat(1 + usize::from(number));
        match number / 3 {
            0 => {}
            1 => steps.extend([4 | index, 8, 128, 0, 9, 0, 1, 0x81]),
            2 => steps.extend([5 | index, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x81]),
            _ => steps.extend([6, 0, 16, 9, 0, 0, 0, 0, 0, 0, 1, 1, 0x81, 7]),
        }
        steps.extend(honest);
        seeds.push(("shared_ring", format!("life-{number:02}"), steps));
    }
    // Lengths of what comes next: right, too long, not there.
    for (number, length) in [1000_u16, 1025, 2000, 4080, u16::MAX]
        .into_iter()
        .enumerate()
    {
        let mut steps = [0, 0xe8, 3].repeat(4);
        steps.extend([0x0f, length as u8, (length >> 8) as u8, 0x81, 0x81, 1]);
        seeds.push(("shared_ring", format!("length-{number}"), steps));
    }
    Ok(seeds)
}

/// A description with every shape in it.
fn description() -> Description {
    let field = |name: &str, shape| FieldShape {
        name: name.to_owned(),
        shape,
        optional: true,
    };
    let point = Shape::Struct(StructShape {
        name: "Point".to_owned(),
        fields: vec![
            field("x", Shape::F64),
            field("next", Shape::Recursive("Point".to_owned())),
        ],
    });
    let side = Shape::Enum(EnumShape {
        name: "Side".to_owned(),
        variants: vec![VariantShape {
            name: "Left".to_owned(),
            fields: vec![field("0", Shape::Bytes)],
        }],
    });
    let shapes = [
        Shape::Option(Box::new(point.clone())),
        Shape::List(Box::new(Shape::I128)),
        Shape::Array(Box::new(Shape::Char), 4),
        Shape::Tuple(vec![Shape::Text, side.clone()]),
        Shape::Map(Box::new(Shape::Text), Box::new(Shape::Unit)),
        Shape::Result(
            Box::new(Shape::U8),
            Box::new(Shape::Opaque("a::B".to_owned())),
        ),
    ];
    let parameters = shapes
        .into_iter()
        .enumerate()
        .map(|(place, shape)| Parameter {
            name: format!("p{place}"),
            shape,
        });
    let skill = |name: &str, parameters, result| SkillDescription {
        name: name.to_owned(),
        doc: "Does something.".to_owned(),
        signature: Signature {
            parameters,
            result,
            error: Some("Error".to_owned()),
            constant: false,
        },
        logger: true,
        idempotent: false,
        asynchronous: true,
        portable: true,
    };
    Description {
        skills: vec![
            skill("a.b", parameters.collect(), point),
            skill("a.c", Vec::new(), side),
        ],
        cleanup: true,
        save: true,
        restore: true,
    }
}
