package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/**
 * Makes the sessions of requests, and lists and ends those of users. One per application; it is
 * safe for use by many threads.
 */
public final class Sessions {
    final RedisStore store;
    final Config config;
    final Keys keys;
    private final Map<String, Field> userFields = new HashMap<>();
    long recheckNanos = Renewals.RECHECK_NANOS; // tests on a busy machine have more

    /**
     * @throws IllegalArgumentException if the configuration is not secure or not consistent
     */
    public Sessions(RedisStore store, Config config) {
        this.store = store;
        this.config = config.checked();
        keys = new Keys(this.config.keys, this.config.userKey);
        this.config.userFields.forEach(field -> userFields.put(field.name, field));
    }

    /**
     * Begins a request, for adapters of frameworks. It does not talk to the store.
     *
     * @param cookieHeaders the values of the request's Cookie headers
     * @param authorization the values of the request's Authorization headers; see
     *     {@link Config#bearer}
     * @param crossOrigin returns why another site caused the request, or null
     */
    public Session begin(List<String> cookieHeaders, List<String> authorization, Supplier<String> crossOrigin) {
        List<String> bearer = config.bearer ? authorization : List.of();
        return new Session(this, new Credentials(cookieHeaders, bearer, config.cookieName, keys), crossOrigin);
    }

    /**
     * Begins a request with a token of {@link Session#newToken}, for adapters. Null stands for
     * none.
     */
    public Session begin(String token) {
        return begin(token == null ? List.of() : List.of(config.cookieName + "=" + token), List.of(), () -> null);
    }

    /**
     * Reports whether a text has the form of a token, and, with keys, a valid MAC. It does not talk
     * to the store.
     */
    public boolean isToken(String text) {
        return Token.parse(text, keys) != null;
    }

    /** Returns the field of {@link Config#userFields} to which a name belongs, or null. */
    Field userField(String name) {
        return userFields.isEmpty() ? null : userFields.get(Names.field(name));
    }

    private String owner(String user) {
        if (user == null || user.isEmpty() || Texts.hasLoneSurrogate(user) || Texts.bytes(user).length > 256) {
            throw new SessionException(Kind.INVALID, "a user id has 1 to 256 bytes of UTF-8");
        }
        return keys.owner(Texts.bytes(user));
    }

    /** Lists the user's sessions, the newest first. */
    public List<Info> sessions(String user) {
        String owner = owner(user);
        List<Info> list = new ArrayList<>();
        UserList.read(store, owner).forEach((id, r) -> list.add(Info.of(id, r, whoOf(id, r))));
        return list;
    }

    /** Opens who is signed in. A session whose key is missing is listed without. */
    private Principal.Who whoOf(SessionId id, Record r) {
        try {
            return who(id, r);
        } catch (SessionException e) {
            return null;
        }
    }

    /** Opens who is signed in, and refuses a session whose owner another user key made. */
    Principal.Who who(SessionId id, Record r) {
        if (r.principal == null) {
            return null;
        }
        Principal.Who who = r.who;
        if (who == null) {
            byte[] plain = keys.open(r.id, "@i", Texts.bytes(r.principal.info()));
            try {
                String json = Texts.utf8(plain);
                if (json == null) {
                    throw new Malformed("@i", "not UTF-8");
                }
                who = Principal.parse(json);
            } catch (Malformed e) {
                throw e.forSession(id.handle());
            }
        }
        if (!keys.owner(who.user()).equals(r.principal.owner())) {
            throw new SessionException(Kind.INVALID, "session " + id.handle() + ": another user key made its owner");
        }
        return who;
    }

    /**
     * Ends the session of the user with this handle.
     *
     * @throws SessionException NOT_FOUND if the user has no such session, even if another user has
     */
    public void revoke(String user, String handle) {
        SessionId id = handle == null ? null : SessionId.parse(handle);
        if (id == null || user == null || user.isEmpty()) {
            throw new SessionException(Kind.NOT_FOUND, "no such handle");
        }
        String owner = owner(user);
        boolean other = !id.bucket().equals(String.format("%04x", Keys.bucket(owner)));
        if (other || UserSessions.end(store, owner, List.of(id.name())) == 0) {
            throw new SessionException(Kind.NOT_FOUND, "the user has no session " + handle);
        }
    }

    /**
     * Ends all sessions of the user in one step, except those with these handles, at most 100. A
     * sign-in that began before is refused. Returns how many sessions it ended; fewer if a reply
     * was lost.
     */
    public int revokeUser(String user, Collection<String> keep) {
        String owner = owner(user);
        List<String> names = new ArrayList<>();
        for (String handle : keep) {
            SessionId id = handle == null ? null : SessionId.parse(handle);
            // A mistyped handle must not end the session that it was meant to keep
            if (id == null) {
                throw new SessionException(Kind.INVALID, "not a handle: " + handle);
            }
            if (id.bucket().equals(String.format("%04x", Keys.bucket(owner)))) {
                names.add(id.name());
            }
        }
        if (names.size() > 100) {
            throw new SessionException(Kind.INVALID, "at most 100 handles to keep");
        }
        long longest = Math.max(config.lifetime.toMillis(), config.maxRemember.toMillis());
        return UserSessions.revoke(store, owner, names, longest);
    }

    /**
     * Returns the data of a user, for a program that acts for the user without a session, such as a
     * worker. It is one round trip. {@link Data#commit} of the result stores changes.
     *
     * @throws SessionException UNAVAILABLE; SEALED; INVALID if this is no user id
     */
    public UserData userData(String user) {
        UserData data = new UserData(this, user, owner(user), null);
        data.open();
        return data;
    }

    /**
     * Ends all sessions of the user, as {@link #revokeUser} does, and then empties the user's data.
     * Returns how many sessions it ended. After an error, call it again.
     *
     * <p>A request that found its session alive before the call may still store a change a moment
     * later. To be sure, call it again after the store's timeout.
     *
     * @throws SessionException those of {@link #revokeUser} and of {@link Data#commit}
     */
    public int deleteUser(String user) {
        int n = revokeUser(user, List.of());
        UserCommits.empty(new UserState(this, user, owner(user), null));
        return n;
    }

    /** Ends every session in the store: for an incident. After an error, call it again. */
    public void revokeAll() {
        store.revokeAll();
    }

    /** Reports whether requests need CSRF tokens. For adapters. */
    public boolean csrf() {
        return config.csrf;
    }

    /** Returns {@link Config#trustedOrigins}. For adapters. */
    public List<String> trustedOrigins() {
        return config.trustedOrigins;
    }

    /**
     * Returns the tokens in these Cookie headers, in the order in which they are tried. For
     * adapters.
     */
    public List<String> tokens(List<String> cookieHeaders) {
        return new Credentials(cookieHeaders, config.cookieName, keys).tokens.stream().map(t -> t.text(keys)).toList();
    }

    /**
     * Deletes the cookies that these Cookie headers have, or only that of anonymous sessions. For
     * adapters.
     */
    public void deleteCookies(List<String> cookieHeaders, boolean onlyAnonymous, Session.Headers h) {
        Credentials c = new Credentials(cookieHeaders, config.cookieName, keys);
        if (c.hasCookie && !onlyAnonymous) {
            h.add("Set-Cookie", Cookies.line(config, config.cookieName, "", -1));
        }
        if (c.hasAnonymous) {
            h.add("Set-Cookie", Cookies.line(config, config.cookieName + Credentials.ANONYMOUS, "", -1));
        }
        Cookies.caching(h, c.hasCookie || c.hasAnonymous);
    }

    /**
     * Ends the session with this handle, whoever has it: for administrators. Returns whether there
     * was one.
     */
    public boolean end(String handle) {
        SessionId id = SessionId.parse(handle);
        if (id == null) {
            throw new SessionException(Kind.INVALID, "not a handle: " + handle);
        }
        String owner = store.owner(id);
        return UserSessions.endOne(store, id, owner, owner != null);
    }
}
