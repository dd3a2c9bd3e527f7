//! Tests of links and of calls over them.

use super::{Broken, Call, Fault, HostId, Links, Point};

fn two_hosts() -> (Links, HostId, HostId) {
    let mut links = Links::new();
    let (client, server) = (links.add_host(), links.add_host());
    (links, client, server)
}

/// A call that meets `disturb` right before its n-th point.
fn broken_before(point: usize, disturb: impl Fn(&mut Links, HostId, HostId)) -> Broken {
    let (mut links, client, server) = two_hosts();
    let mut call = Call::new(&links, client, server);
    for _ in 0..point {
        call.pass(&links).unwrap();
    }
    disturb(&mut links, client, server);
    call.pass(&links).unwrap_err()
}

#[test]
fn an_undisturbed_call_passes_all_four_points() {
    let (links, client, server) = two_hosts();
    let mut call = Call::new(&links, client, server);
    let passed: Vec<_> = (0..4).map(|_| call.pass(&links).unwrap()).collect();
    let all = [
        Point::RequestDeparts,
        Point::RequestArrives,
        Point::ResponseDeparts,
        Point::ResponseArrives,
    ];
    assert_eq!(passed, all);
}

#[test]
fn a_lost_request_is_not_applied_and_the_client_cannot_tell() {
    for point in 0..2 {
        let broken = broken_before(point, Links::cut);
        assert_eq!(broken.fault, Fault::Drop);
        assert!(!broken.reached_server() && !broken.surely_not_applied());
    }
}

#[test]
fn a_lost_response_leaves_the_outcome_unknown() {
    for point in 2..4 {
        let broken = broken_before(point, |links, client, server| links.cut(server, client));
        assert!(broken.reached_server() && !broken.surely_not_applied());
    }
}

#[test]
fn only_a_refused_connection_is_known_not_to_be_applied() {
    let reset = |links: &mut Links, client, server| {
        links.cut_with(client, server, Fault::Reset);
        links.cut_with(server, client, Fault::Reset);
    };
    let known: Vec<_> = (0..4)
        .map(|point| broken_before(point, reset).surely_not_applied())
        .collect();
    assert_eq!(known, [true, false, false, false]);
}

#[test]
fn cuts_are_directed_and_heal() {
    let (mut links, one, other) = two_hosts();
    links.cut(one, other);
    assert!(!links.is_up(one, other) && links.is_up(other, one));
    links.heal(one, other);
    assert!(links.is_up(one, other));
}

#[test]
fn an_isolated_host_keeps_its_loopback_and_its_own_cuts() {
    let (mut links, one, other) = two_hosts();
    links.cut(one, other);
    links.isolate(one);
    assert!(!links.is_up(other, one) && links.is_up(one, one));
    links.rejoin(one);
    assert!(links.is_up(other, one) && !links.is_up(one, other));
    links.heal_all();
    assert!(links.is_up(one, other));
}

#[test]
fn a_reboot_breaks_what_was_in_flight() {
    let reboot = |links: &mut Links, host| {
        links.power_off(host);
        links.power_on(host);
    };
    let server = broken_before(2, |links, _, server| reboot(links, server));
    assert_eq!((server.fault, server.client_lost), (Fault::Reset, false));
    let client = broken_before(2, |links, client, _| reboot(links, client));
    assert!(client.client_lost);
}

#[test]
fn a_host_that_is_off_is_silent() {
    let (mut links, one, other) = two_hosts();
    links.power_off(other);
    assert_eq!(links.fault(one, other), Some(Fault::Drop));
    assert!(!links.is_up(other, other) && !links.is_powered(other));
    links.power_on(other);
    assert!(links.is_up(one, other));
}
