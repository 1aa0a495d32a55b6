//! Writes the first inputs of the fuzz targets.

use std::fs;
use std::path::Path;

use aigis_plugin_api::__private::{
    Description, EnumShape, FieldShape, Parameter, Shape, Signature, SkillDescription, StructShape,
    VariantShape,
};
use aigis_plugin_api::abi::reader::Memory;
use aigis_plugin_api::abi::{Field, descriptor};
use aigis_plugin_api::codec;

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
    Ok(())
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
