//! CEL about addresses: texts that the tables put together. The apiserver's own functions read
//! addresses; order, which they do not know, is reckoned from the numbers in the text.
//!
//! The apiserver bounds what a rule may cost before it ever runs, from the lengths that the schema
//! states. A text that was cut out by `substring` has a known bound, an item of a `split` has none:
//! hence the first, and numbers instead of texts from there on.

/// The ordinals of the groups of an IPv6 address.
const GROUPS: &str = "[0, 1, 2, 3, 4, 5, 6, 7]";
const DIGITS: &str = "'0123456789abcdef'";

/// Whether the text `t` is of the IPv6 family, if it is of any.
pub(super) fn v6(t: &str) -> String {
    format!("{t}.contains(':')")
}

/// What stands before the minus of a range.
pub(super) fn first(t: &str) -> String {
    format!("{t}.substring(0, {t}.indexOf('-'))")
}

/// What stands behind it.
pub(super) fn last(t: &str) -> String {
    format!("{t}.substring({t}.indexOf('-') + 1)")
}

/// Whether `t` is a prefix, one address, or two addresses of one family.
pub(super) fn is_range(t: &str) -> String {
    let (first, last) = (first(t), last(t));
    format!(
        "{t}.contains('-') ? isIP({first}) && isIP({last}) && \
         ip({first}).family() == ip({last}).family() && !({t}.contains(':') && {t}.contains('.')) : \
         {t}.contains('/') ? isCIDR({t}) : isIP({t})"
    )
}

/// Whether the range `t` ends where it begins or later; true of what is no range from one address
/// to another.
pub(super) fn is_ordered(t: &str) -> String {
    let (first, last) = (first(t), last(t));
    let four = |t: &str| format!("{t}.split('.', 4).map(octet, int(octet))");
    let not_after = |places: &str| {
        format!("!{places}.exists(i, a[i] > b[i] && {places}.all(j, j >= i || a[j] == b[j]))")
    };
    let v4 = format!(
        "[{}].all(a, [{}].all(b, {}))",
        four(&first),
        four(&last),
        not_after("[0, 1, 2, 3]")
    );
    let v6 = format!(
        "[{}].all(p, [{}].all(q, [{}].all(a, [{}].all(b, {}))))",
        groups(&first),
        groups(&last),
        numbers("p"),
        numbers("q"),
        not_after(GROUPS)
    );
    format!(
        "!{t}.contains('-') || !isIP({first}) || !isIP({last}) || \
         ip({first}).family() != ip({last}).family() || \
         ({t}.contains(':') ? {t}.contains('.') || {v6} : {v4})"
    )
}

/// The eight groups of an IPv6 address, as texts: `::` is written out, the empty texts that it
/// leaves at the ends are dropped.
fn groups(t: &str) -> String {
    let stated = format!("{t}.split(':', 10).filter(g, g.size() > 0).size()");
    format!(
        "{t}.lowerAscii().replace('::', ':0:0:0:0:0:0:0:0:'.substring(0, 2 * (8 - {stated}) + 1))\
         .split(':', 10).filter(g, g.size() > 0)"
    )
}

/// The numbers of groups.
fn numbers(groups: &str) -> String {
    let digit = |from_right: u32| {
        let worth = 16_u32.pow(from_right - 1);
        format!(
            "(g.size() >= {from_right} ? \
             {DIGITS}.indexOf(g.charAt(g.size() - {from_right})) * {worth} : 0)"
        )
    };
    let digits = [1, 2, 3, 4].map(digit).join(" + ");
    format!("{GROUPS}.map(i, [{groups}[i]].map(g, {digits})[0])")
}

/// Whether the range `t` lies inside the prefix `net`; true of what cannot be read.
pub(super) fn is_inside(net: &str, t: &str) -> String {
    let (first, last) = (first(t), last(t));
    let address = |t: &str| format!("(!isIP({t}) || cidr({net}).containsIP({t}))");
    format!(
        "{t}.contains('-') ? {} && {} : {t}.contains('/') ? \
         !isCIDR({t}) || cidr({net}).containsCIDR({t}) : {}",
        address(&first),
        address(&last),
        address(t)
    )
}
