//! Jinja, in a sandbox.
//!
//! Templates are evaluated only when a value is needed, and see the variables of its scope, each of
//! them evaluated only when the template needs it. There is no access to files, commands or the
//! network.
//!
//! # Bounds
//!
//! Instructions, length of a template and of what it gives, depth of variables in variables, and
//! the sum of it all over one tree are bounded. In a tenant's tree statements (`{% … %}`) and the
//! filters that could build large values are not available at all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Jinja, filters, tests};
use thiserror::Error;

use super::filters::{short_names, undefined};
use super::scope::{Scope, Target};
use crate::yaml::plain::{Plain, read};
use crate::yaml::{Entry, Kind, Scalar, Value};

/// What evaluating the templates of one tree may cost.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// Instructions per template.
    fuel: u64,
    /// Templates, those that templates need included.
    evaluations: u64,
    /// Values in what a template gives.
    values: usize,
}

const TRUSTED: Budget = Budget {
    fuel: 20_000,
    evaluations: 1_000_000,
    values: 10_000,
};
const UNTRUSTED: Budget = Budget {
    fuel: 2_000,
    evaluations: 20_000,
    values: 1_000,
};

/// Octets of a template.
const MAX_TEMPLATE: usize = 4096;
/// Octets of what a template gives.
const MAX_RESULT: usize = 16 * 1024;
/// Variables in variables.
const MAX_DEPTH: u32 = 12;

/// Why a template gives no value.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub(crate) struct TemplateError(pub(crate) String);

/// Evaluates templates.
#[derive(Debug)]
pub(crate) struct Engine {
    env: Environment<'static>,
    trusted: bool,
    budget: Budget,
    left: AtomicU64,
}

impl Engine {
    /// Makes the engine for one tree. A trusted tree has all of Jinja.
    pub(crate) fn new(trusted: bool) -> Self {
        let mut env = if trusted {
            Environment::new()
        } else {
            small_environment()
        };
        let budget = if trusted { TRUSTED } else { UNTRUSTED };
        env.set_fuel(Some(budget.fuel));
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_formatter(|out, state, value| {
            if value.is_undefined() {
                return Err(undefined());
            }
            minijinja::escape_formatter(out, state, value)
        });
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        super::filters::add_small(&mut env);
        if trusted {
            super::filters::add_trusted(&mut env);
        }
        Self {
            env,
            trusted,
            budget,
            left: AtomicU64::new(budget.evaluations),
        }
    }

    /// Evaluates a value if it is a template; otherwise returns it as it is.
    pub(super) fn evaluate(
        self: &Arc<Self>,
        value: &Arc<Value>,
        scope: &Scope,
    ) -> Result<Arc<Value>, TemplateError> {
        let Kind::Scalar(scalar) = &value.kind else {
            return Ok(Arc::clone(value));
        };
        if !is_template(scalar) {
            return Ok(Arc::clone(value));
        }
        let context = Context {
            scope: scope.clone(),
            engine: Arc::clone(self),
            depth: 0,
        };
        let result = context
            .render(&scalar.text)
            .map_err(|error| explain(&error))?;
        let mut room = self.budget.values;
        from_jinja(&result, value, 0, &mut room)
            .map(Arc::new)
            .map_err(|error| explain(&error))
    }
}

/// Without the filters that could multiply what they get.
fn small_environment() -> Environment<'static> {
    let mut env = Environment::empty();
    env.add_filter("default", filters::default);
    env.add_filter("d", filters::default);
    env.add_filter("lower", filters::lower);
    env.add_filter("upper", filters::upper);
    env.add_filter("trim", filters::trim);
    env.add_filter("first", filters::first);
    env.add_filter("last", filters::last);
    env.add_filter("length", filters::length);
    env.add_filter("int", filters::int);
    env.add_filter("bool", filters::bool);
    env.add_filter("string", filters::string);
    env.add_test("defined", tests::is_defined);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("none", tests::is_none);
    env
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

fn is_template(scalar: &Scalar) -> bool {
    scalar.template && (scalar.text.contains("{{") || scalar.text.contains("{%"))
}

/// The innermost reason, in the engine's words.
fn explain(error: &Error) -> TemplateError {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let text = match inner.downcast_ref::<Error>() {
        Some(error) => match error.detail() {
            Some(detail) => detail.to_owned(),
            None => error.kind().to_string(),
        },
        None => inner.to_string(),
    };
    TemplateError(text)
}

/// The variables of a scope, as Jinja sees them.
#[derive(Clone)]
struct Context {
    scope: Scope,
    engine: Arc<Engine>,
    depth: u32,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("variables")
    }
}

impl Context {
    fn render(&self, template: &str) -> Result<Jinja, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(refused(format!(
                "variables refer to variables more than {MAX_DEPTH} levels deep, or to themselves"
            )));
        }
        if template.len() > MAX_TEMPLATE {
            return Err(refused(format!(
                "the template is longer than {MAX_TEMPLATE} octets"
            )));
        }
        if !self.engine.trusted && template.contains("{%") {
            return Err(refused(
                "statements (`{% … %}`) are not evaluated in a tenant's tree",
            ));
        }
        let spent = self
            .engine
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if spent.is_err() {
            return Err(refused(format!(
                "more than {} templates in one tree",
                self.engine.budget.evaluations
            )));
        }
        let value = self.evaluate(&short_names(template))?;
        match value.as_str() {
            Some(text) if text.len() > MAX_RESULT => Err(refused(format!(
                "the result is longer than {MAX_RESULT} octets"
            ))),
            Some(_) | None => Ok(value),
        }
    }

    /// One expression keeps its type (a list stays a list); everything else is text.
    fn evaluate(&self, template: &str) -> Result<Jinja, Error> {
        let context = Jinja::from_object(self.clone());
        let env = &self.engine.env;
        match single_expression(template) {
            Some(expression) => {
                let value = env.compile_expression(expression)?.eval(context)?;
                if value.is_undefined() {
                    return Err(undefined());
                }
                Ok(value)
            }
            None => {
                let mut out = Limited::default();
                env.template_from_str(template)?
                    .render_captured_to(context, &mut out)?;
                let text = String::from_utf8(out.octets).map_err(|_| refused("not UTF-8"))?;
                Ok(Jinja::from(text))
            }
        }
    }

    fn lookup(&self, name: &str) -> Option<Jinja> {
        let inventory = self.scope.inventory();
        match (name, self.scope.target()) {
            ("inventory_hostname", Target::Host(host)) => {
                Some(Jinja::from(&*inventory.hosts[host].name))
            }
            ("inventory_hostname_short", Target::Host(host)) => {
                let name = &inventory.hosts[host].name;
                Some(Jinja::from(name.split('.').next().unwrap_or_default()))
            }
            ("group_names", Target::Host(host)) => {
                let groups = inventory.hosts[host]
                    .ancestry
                    .iter()
                    .filter(|&&group| group != 0);
                let names: Vec<&str> = groups.map(|&g| &*inventory.groups[g].name).collect();
                Some(Jinja::from_iter(names))
            }
            ("groups", _) => Some(Jinja::from_object(Groups(self.scope.clone()))),
            ("hostvars", _) => Some(Jinja::from_object(HostVars(self.clone()))),
            _ => self
                .scope
                .get(name)
                .map(|entry| self.to_jinja(&entry.value)),
        }
    }

    fn to_jinja(&self, value: &Arc<Value>) -> Jinja {
        match &value.kind {
            Kind::Scalar(scalar) if is_template(scalar) => {
                let deeper = Self {
                    depth: self.depth + 1,
                    ..self.clone()
                };
                deeper.render(&scalar.text).unwrap_or_else(Jinja::from)
            }
            Kind::Scalar(scalar) => scalar_to_jinja(scalar),
            Kind::List(_) | Kind::Map(_) => Jinja::from_object(Collection {
                value: Arc::clone(value),
                context: self.clone(),
            }),
            Kind::Opaque(_) => Jinja::from(refused("a variable in it is encrypted")),
        }
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.lookup(key.as_str()?)
    }
}

/// `groups`: the names of the hosts in a group, those of its children included.
#[derive(Debug)]
struct Groups(Scope);

impl Object for Groups {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let inventory = self.0.inventory();
        let group = inventory.group(key.as_str()?)?;
        let members = inventory
            .hosts
            .iter()
            .filter(|host| host.ancestry.contains(&group));
        let names: Vec<&str> = members.map(|host| &*host.name).collect();
        Some(Jinja::from_iter(names))
    }
}

/// `hostvars`: the variables of another host.
#[derive(Debug)]
struct HostVars(Context);

impl Object for HostVars {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let host = self.0.scope.inventory().host(key.as_str()?)?;
        Some(Jinja::from_object(Context {
            scope: self.0.scope.of(Target::Host(host)),
            engine: Arc::clone(&self.0.engine),
            depth: self.0.depth,
        }))
    }
}

/// A list or map whose parts are evaluated when they are looked at.
#[derive(Debug)]
struct Collection {
    value: Arc<Value>,
    context: Context,
}

impl Object for Collection {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.value.kind {
            Kind::List(_) => ObjectRepr::Seq,
            Kind::Map(_) | Kind::Scalar(_) | Kind::Opaque(_) => ObjectRepr::Map,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let value = match &self.value.kind {
            Kind::List(items) => items.get(key.as_usize()?)?,
            Kind::Map(entries) => {
                let wanted = match key.as_str() {
                    Some(text) => text.to_owned(),
                    None => key.to_string(),
                };
                &entries.iter().find(|entry| *entry.key == *wanted)?.value
            }
            Kind::Scalar(_) | Kind::Opaque(_) => return None,
        };
        Some(self.context.to_jinja(value))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match &self.value.kind {
            Kind::List(items) => Enumerator::Seq(items.len()),
            Kind::Map(_) => self.mapped_enumerator(|this| match &this.value.kind {
                Kind::Map(entries) => Box::new(entries.iter().map(|e| Jinja::from(&*e.key))),
                Kind::List(_) | Kind::Scalar(_) | Kind::Opaque(_) => Box::new(std::iter::empty()),
            }),
            Kind::Scalar(_) | Kind::Opaque(_) => Enumerator::Empty,
        }
    }
}

fn scalar_to_jinja(scalar: &Scalar) -> Jinja {
    let text = || Jinja::from(&*scalar.text);
    if !scalar.plain {
        return text();
    }
    match read(&scalar.text) {
        Plain::Null => Jinja::from(()),
        Plain::Bool(value) | Plain::BoolTrap(value) => Jinja::from(value),
        Plain::Int(value)
        | Plain::Octal(value)
        | Plain::Sexagesimal(value)
        | Plain::OddInt(value) => Jinja::from(value),
        Plain::Float => scalar
            .text
            .replace('_', "")
            .parse::<f64>()
            .map_or_else(|_| text(), Jinja::from),
        Plain::Text => text(),
    }
}

/// Returns the expression of a template that is nothing but one `{{ … }}`.
fn single_expression(template: &str) -> Option<&str> {
    let inner = template.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    (!inner.contains("{{") && !inner.contains("}}")).then_some(inner)
}

/// What Jinja gave, at the place of the template.
fn from_jinja(value: &Jinja, at: &Value, depth: u32, room: &mut usize) -> Result<Value, Error> {
    *room = room
        .checked_sub(1)
        .ok_or_else(|| refused("the result has too many values"))?;
    if depth > MAX_DEPTH {
        return Err(refused(format!(
            "the result is nested deeper than {MAX_DEPTH} levels"
        )));
    }
    let place = at.place;
    match value.kind() {
        ValueKind::Undefined => Err(undefined()),
        ValueKind::None => Ok(Value::scalar(place, "null", true)),
        ValueKind::Bool | ValueKind::Number => Ok(Value::scalar(place, &value.to_string(), true)),
        ValueKind::String => Ok(Value::scalar(
            place,
            value.as_str().unwrap_or_default(),
            false,
        )),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()? {
                items.push(Arc::new(from_jinja(&item, at, depth + 1, room)?));
            }
            Ok(Value::new(place, Kind::List(items)))
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                entries.push(Entry {
                    key: key.to_string().into(),
                    key_plain: false,
                    key_place: place,
                    value: Arc::new(from_jinja(&item, at, depth + 1, room)?),
                });
            }
            Ok(Value::new(place, Kind::Map(entries)))
        }
        ValueKind::Invalid => Err(value
            .try_iter()
            .err()
            .unwrap_or_else(|| refused("the result is not valid"))),
        kind @ (ValueKind::Bytes | ValueKind::Plain | _) => {
            Err(refused(format!("the result is a {kind}")))
        }
    }
}

/// Collects output up to a bound.
#[derive(Default)]
struct Limited {
    octets: Vec<u8>,
}

impl std::io::Write for Limited {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        if self.octets.len() + octets.len() > MAX_RESULT {
            return Err(std::io::Error::other(format!(
                "the result is longer than {MAX_RESULT} octets"
            )));
        }
        self.octets.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
