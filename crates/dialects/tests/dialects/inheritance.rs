//! A provider that extends another: what it takes over, and chains that lead nowhere.

use quotakeeper_dialects::profile::{ExtendsError, Tier};
use quotakeeper_dialects::{Profile, catalogue};

use crate::answers::{profile, written};

#[test]
fn a_compatible_provider_takes_over_all_but_what_it_says_itself() {
    let (openai, groq) = (catalogue::find("openai").unwrap(), profile("groq"));
    assert_eq!(groq.extends, None);
    assert_eq!(groq.hosts, ["api.groq.com"]);
    assert_eq!(groq.tier_names(), ["default"]);
    assert_eq!(groq.headers, written("groq").headers);
    assert_eq!((groq.model, groq.client, groq.retry), (openai.model, openai.client, openai.retry));
    // Its own rejections are asked before the inherited ones.
    let own = written("groq").rejections;
    assert_eq!(groq.rejections[..own.len()], own);
    assert_eq!(groq.rejections[own.len()..], openai.rejections);
}

#[test]
fn other_hosts_do_not_inherit_the_way_to_the_first_provider() {
    let hosts = vec!["llm.internal.example".to_owned()];
    let own = Profile { extends: Some("openai".to_owned()), hosts, ..Profile::default() };
    assert_eq!(own.resolve(|name| catalogue::find(name).ok()).unwrap().base_url, None);

    let tier = Tier { name: "contract".to_owned(), ..Tier::default() };
    let same = Profile { extends: Some("openai".to_owned()), tiers: vec![tier], ..Profile::default() };
    let same = same.resolve(|name| catalogue::find(name).ok()).unwrap();
    assert_eq!(same.base_url, catalogue::find("openai").unwrap().base_url);
    assert_eq!(same.hosts, ["api.openai.com"]);
    assert_eq!(same.tier_names(), ["contract"]);
}

#[test]
fn figures_of_ones_own_are_not_checked_against_the_bases_document() {
    let checked = |tiers: Vec<Tier>| {
        let extending = Profile { extends: Some("openai".to_owned()), tiers, ..Profile::default() };
        extending.resolve(|name| catalogue::find(name).ok()).unwrap().verified
    };
    let openai = catalogue::find("openai").unwrap();
    assert_eq!(checked(vec![openai.tiers[0].clone()]), None);
    assert_eq!(checked(Vec::new()), openai.verified);
}

#[test]
fn chains_are_followed_and_circles_refused() {
    let extending = |name: &str| Profile { extends: Some(name.to_owned()), ..Profile::default() };
    let find = |name: &str| match name {
        "a" => Some(extending("b")),
        "b" => Some(extending("a")),
        "self" => Some(extending("self")),
        "far" => Some(extending("nearer")),
        "nearer" => Some(extending("demo")),
        _ => match name.strip_prefix("deep-").map(|depth| depth.parse::<u32>().unwrap()) {
            Some(depth) => Some(extending(&format!("deep-{}", depth + 1))),
            None => catalogue::find(name).ok(),
        },
    };
    assert_eq!(extending("far").resolve(find).unwrap(), catalogue::find("demo").unwrap());
    assert_eq!(extending("a").resolve(find), Err(ExtendsError::Cyclic("a".to_owned())));
    assert_eq!(extending("self").resolve(find), Err(ExtendsError::Cyclic("self".to_owned())));
    assert_eq!(extending("deep-0").resolve(find), Err(ExtendsError::TooDeep("deep-8".to_owned())));
    let unknown = extending("opnai").resolve(find).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "extends: provider `opnai` does not exist; create it, or name one that exists"
    );
}

#[test]
fn models_and_prices_are_of_one_address() {
    let resolve = |profile: Profile| profile.resolve(|name| catalogue::find(name).ok()).unwrap();
    let openai = catalogue::find("openai").unwrap();
    let contract = resolve(Profile { extends: Some("openai".to_owned()), ..Profile::default() });
    assert_eq!((contract.models, contract.prices), (openai.models.clone(), openai.prices.clone()));

    let models = vec![openai.models[0].clone()];
    let own =
        resolve(Profile { extends: Some("openai".to_owned()), models: models.clone(), ..Profile::default() });
    assert_eq!((own.models, own.prices), (models, None), "another list has another date");

    let groq = profile("groq");
    assert!(groq.models.is_empty() && groq.prices.is_none(), "another provider has other prices");
}
