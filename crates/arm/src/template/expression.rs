//! The expressions of ARM templates: `[concat(parameters('name'), '-', variables('list')[0].id)]`, from text to a tree.

use serde_json::{Value, json};

use super::invalid;
use crate::error::ArmError;

/// Azure's own bound on one expression.
const MAX_CHARACTERS: usize = 24_576;
/// Calls inside calls.
const MAX_DEPTH: usize = 64;

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    /// A text or a number.
    Literal(Value),
    /// `name(arguments)`
    Call(String, Vec<Expression>),
    /// `of.name`
    Member(Box<Expression>, String),
    /// `of[at]`
    Index(Box<Expression>, Box<Expression>),
}

/// What a text of a template is.
#[derive(Debug, PartialEq)]
pub(crate) enum Text {
    /// Stands for itself.
    Plain(String),
    /// Stands for what it comes to.
    Computed(Expression),
}

/// Reads a text: one in brackets is an expression, `[[` means a bracket.
pub(crate) fn read(text: &str) -> Result<Text, ArmError> {
    if let Some(rest) = text.strip_prefix("[[") {
        return Ok(Text::Plain(format!("[{rest}")));
    }
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        None => Ok(Text::Plain(text.to_owned())),
        Some(inner) if inner.len() > MAX_CHARACTERS => Err(invalid(format!(
            "An expression is longer than {MAX_CHARACTERS} characters."
        ))),
        Some(inner) => {
            let mut parser = Parser { text: inner, at: 0 };
            let expression = parser.expression(0)?;
            match parser.next_token() {
                None => Ok(Text::Computed(expression)),
                Some(_) => Err(parser.unexpected("the end")),
            }
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    /// In bytes.
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next character that is no blank; stays before it.
    fn next_token(&mut self) -> Option<char> {
        let blanks = self.rest().len() - self.rest().trim_start().len();
        self.at += blanks;
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> Result<(), ArmError> {
        if self.next_token() != Some(wanted) {
            return Err(self.unexpected(&format!("'{wanted}'")));
        }
        self.at += wanted.len_utf8();
        Ok(())
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, ArmError> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("An expression is nested more than {MAX_DEPTH} deep.")));
        }
        let mut expression = self.primary(depth)?;
        let mut steps = 0;
        loop {
            match self.next_token() {
                Some('.') => {
                    self.at += 1;
                    self.next_token();
                    let name = self.word()?;
                    expression = Expression::Member(Box::new(expression), name);
                }
                Some('[') => {
                    self.at += 1;
                    let index = self.expression(depth + 1)?;
                    self.take(']')?;
                    expression = Expression::Index(Box::new(expression), Box::new(index));
                }
                _ => return Ok(expression),
            }
            steps += 1;
            if depth + steps > MAX_DEPTH {
                return Err(invalid(format!(
                    "An expression goes more than {MAX_DEPTH} steps into a value."
                )));
            }
        }
    }

    fn primary(&mut self, depth: usize) -> Result<Expression, ArmError> {
        match self.next_token() {
            Some('\'') => self.quoted(),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if is_word(c) => {
                let name = self.word()?;
                self.call(name, depth)
            }
            _ => Err(self.unexpected("a function, a text or a number")),
        }
    }

    fn call(&mut self, name: String, depth: usize) -> Result<Expression, ArmError> {
        self.take('(')?;
        let mut arguments = Vec::new();
        if self.next_token() != Some(')') {
            loop {
                arguments.push(self.expression(depth + 1)?);
                if self.next_token() != Some(',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.take(')')?;
        Ok(Expression::Call(name, arguments))
    }

    /// `'it''s'`
    fn quoted(&mut self) -> Result<Expression, ArmError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(end) = self.rest().find('\'') else {
                return Err(self.unexpected("the closing quote"));
            };
            text.push_str(&self.rest()[..end]);
            self.at += end + 1;
            if !self.rest().starts_with('\'') {
                return Ok(Expression::Literal(json!(text)));
            }
            text.push('\'');
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Expression, ArmError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '-'))
            .unwrap_or(rest.len());
        let Ok(number) = rest[..end].parse::<i64>() else {
            return Err(self.unexpected("a whole number"));
        };
        self.at += end;
        Ok(Expression::Literal(json!(number)))
    }

    fn word(&mut self) -> Result<String, ArmError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.unexpected("a name"));
        }
        let word = rest[..end].to_owned();
        self.at += end;
        Ok(word)
    }

    fn unexpected(&mut self, wanted: &str) -> ArmError {
        let found = match self.next_token() {
            Some(c) => format!("'{c}'"),
            None => "the end".to_owned(),
        };
        // +2: people count from 1, and the bracket before the expression counts.
        invalid(format!(
            "The expression '[{}]' is not valid: expected {wanted} at position {}, found {found}.",
            self.text,
            self.at + 2
        ))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || c == '#'
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn computed(text: &str) -> Expression {
        match read(text).unwrap() {
            Text::Computed(expression) => expression,
            Text::Plain(text) => panic!("{text} is plain"),
        }
    }

    #[test]
    fn texts_without_brackets_stand_for_themselves() {
        for (text, plain) in [("a", "a"), ("[a", "[a"), ("[[a]", "[a]"), ("", "")] {
            assert_eq!(read(text).unwrap(), Text::Plain(plain.to_owned()));
        }
    }

    #[test]
    fn calls_members_and_indices_nest() {
        let call = |name: &str, arguments| Expression::Call(name.to_owned(), arguments);
        let text = |text: &str| Expression::Literal(json!(text));
        assert_eq!(
            computed("[ concat( 'it''s', parameters('p').a[ 0 ] ) ]"),
            call(
                "concat",
                vec![
                    text("it's"),
                    Expression::Index(
                        Box::new(Expression::Member(
                            Box::new(call("parameters", vec![text("p")])),
                            "a".to_owned()
                        )),
                        Box::new(Expression::Literal(json!(0)))
                    )
                ]
            )
        );
    }

    #[test]
    fn what_is_not_an_expression_is_refused_with_its_place() {
        for text in [
            "[]", "[a]", "[a(]", "[a('x]", "[a()b]", "[a(1,)]", "[a(].b]", "[--]", "[ä()]",
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code, "InvalidTemplate", "{text}");
            assert!(error.message.contains("position"), "{}", error.message);
        }
        let deep = format!("[{}1{}]", "a(".repeat(1000), ")".repeat(1000));
        assert!(read(&deep).unwrap_err().message.contains("deep"));
        let long = format!("[a(){}]", ".a".repeat(1000));
        assert!(read(&long).unwrap_err().message.contains("steps"));
    }
}
