package io.github.coatcheckgo.session;

import java.time.Instant;
import java.util.List;

/**
 * What is known about a session. Times are those of the server's clock. All but the handle and the
 * times are empty if nobody is signed in.
 *
 * @param handle the public name of the session. It grants no access
 * @param user the user's id
 * @param level the assurance level that the sign-in recorded
 * @param authenticated when the user authenticated; null if nobody is signed in
 * @param seen when the session was last used, accurate to the touch interval
 * @param expires when the session ends if it is not used again
 * @param deadline when the session ends, even if it is used
 */
public record Info(String handle, String user, List<String> methods, int level, String device, String userAgent,
    String address, Instant authenticated, Instant created, Instant seen, Instant expires, Instant deadline) {

    static Info of(SessionId id, Record r, Principal.Who who) {
        boolean in = r.principal != null;
        return new Info(id.handle(), in && who != null ? userOf(who) : "", who == null ? List.of() : who.methods(),
            in ? r.principal.level() : 0, who == null ? "" : who.device(), who == null ? "" : who.agent(),
            who == null ? "" : who.address(), in ? Instant.ofEpochMilli(r.principal.authenticated()) : null,
            Instant.ofEpochMilli(r.created), Instant.ofEpochMilli(r.seen), Instant.ofEpochMilli(r.expires()),
            Instant.ofEpochMilli(r.deadline));
    }

    static String userOf(Principal.Who who) {
        String user = Texts.utf8(who.user());
        if (user == null) {
            throw new SessionException(SessionException.Kind.DECODE, "the user's id is not UTF-8: another language made it");
        }
        return user;
    }
}
