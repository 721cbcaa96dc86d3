package io.github.coatcheckgo.spring;

import io.github.coatcheckgo.session.Info;
import io.github.coatcheckgo.session.MapField;
import io.github.coatcheckgo.session.Value;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import org.springframework.expression.Expression;
import org.springframework.expression.spel.standard.SpelExpressionParser;
import org.springframework.session.FindByIndexNameSessionRepository;
import org.springframework.session.Session;

/**
 * A session as Spring Session sees it. An attribute whose name is that of a field is that field.
 * Its id is the token, which only the browser may get.
 */
public final class CoatcheckSession implements Session {
    /**
     * This attribute is the {@link io.github.coatcheckgo.session.Session} itself, for counters,
     * maps and updates. It is never stored.
     */
    public static final String NATIVE = "io.github.coatcheckgo.session";

    private static final String PRINCIPAL = FindByIndexNameSessionRepository.PRINCIPAL_NAME_INDEX_NAME;
    private static final String CONTEXT = "SPRING_SECURITY_CONTEXT";
    private static final Expression NAME = new SpelExpressionParser().parseExpression("authentication?.name");

    private final io.github.coatcheckgo.session.Session session; // null: one of a list
    private final Attributes attributes;
    private final Info listed;
    private final Instant created = Instant.now(); // of a session that is not stored
    private final Map<String, Object> decoded = new HashMap<>();
    private String id;
    // The users to sign in at the next save; null: nobody.
    private String principal; // of the attribute PRINCIPAL
    private String authenticated; // of the security context

    /** The session of a request. A null id is that of a session that is not stored. */
    CoatcheckSession(io.github.coatcheckgo.session.Session session, String id, Attributes attributes) {
        this.session = session;
        this.attributes = attributes;
        this.listed = null;
        this.id = id != null ? id : "new-" + UUID.randomUUID();
    }

    /** A session of a list. Its id is the handle, and it has no attributes. */
    CoatcheckSession(Info listed) {
        this.session = null;
        this.attributes = null;
        this.listed = listed;
        this.id = listed.handle();
    }

    io.github.coatcheckgo.session.Session session() {
        if (session == null) {
            throw new UnsupportedOperationException("a session of a list cannot be changed: use its handle");
        }
        return session;
    }

    /** Returns the user to sign in, once. */
    String takeSignIn() {
        String user = signIn();
        principal = null;
        authenticated = null;
        return user;
    }

    /** The token that the response brings is the id from now on. */
    void learnId() {
        String token = session.newToken();
        if (token != null) {
            id = token;
        }
    }

    /** After a sign-in the session may have lost attributes. */
    void forgetDecoded() {
        decoded.clear();
    }

    @Override
    public String getId() {
        return id;
    }

    /** Gives a stored session a new token at once, and stores what was changed. */
    @Override
    public String changeSessionId() {
        if (session().handle().isEmpty()) {
            id = "new-" + UUID.randomUUID();
        } else {
            session.renew();
            learnId();
        }
        return id;
    }

    private Info info() {
        return session == null ? listed : session.info();
    }

    @Override
    @SuppressWarnings("unchecked")
    public <T> T getAttribute(String name) {
        if (name.equals(NATIVE)) {
            return (T) session;
        }
        if (name.equals(PRINCIPAL)) {
            Info info = info();
            String user = signIn() != null ? signIn() : info == null ? "" : info.user();
            return user.isEmpty() ? null : (T) user;
        }
        if (session == null) {
            return null;
        }
        return (T) decoded.computeIfAbsent(name, n -> Attributes.isField(n) ? Value.of(n, attributes.of(n)).get(session).orElse(null)
            : MapField.of(Attributes.OTHERS, attributes.of(n)).get(session, n).orElse(null));
    }

    @Override
    public Set<String> getAttributeNames() {
        Set<String> names = new LinkedHashSet<>();
        if (session == null) {
            return names;
        }
        String prefix = Attributes.OTHERS + ":";
        for (String name : session.names()) {
            if (name.startsWith(prefix)) {
                names.add(name.substring(prefix.length()));
            } else if (name.indexOf(':') < 0) {
                names.add(name); // an entry of another map is no attribute
            }
        }
        return names;
    }

    @Override
    public void setAttribute(String name, Object value) {
        if (value == null) {
            removeAttribute(name);
            return;
        }
        if (name.equals(PRINCIPAL)) {
            principal = other(value.toString());
            return;
        }
        if (name.equals(CONTEXT)) {
            authenticated = other(NAME.getValue(value, String.class));
        }
        decoded.put(name, value);
        if (Attributes.isField(name)) {
            Value.of(name, attributes.of(name)).set(session(), value);
        } else {
            MapField.of(Attributes.OTHERS, attributes.of(name)).set(session(), name, value);
        }
    }

    private String signIn() {
        return authenticated != null ? authenticated : principal;
    }

    /** Returns the user, or null if that is the one who is signed in, or nobody. */
    private String other(String user) {
        return user == null || user.isEmpty() || user.equals(session().user()) ? null : user;
    }

    @Override
    public void removeAttribute(String name) {
        if (name.equals(PRINCIPAL)) {
            principal = null;
            return;
        }
        if (name.equals(CONTEXT)) {
            authenticated = null; // it was set and removed in one request: nobody is signed in
        }
        decoded.remove(name);
        if (Attributes.isField(name)) {
            Value.of(name, attributes.of(name)).delete(session());
        } else {
            MapField.of(Attributes.OTHERS, attributes.of(name)).delete(session(), name);
        }
    }

    @Override
    public Instant getCreationTime() {
        Info info = info();
        return info == null ? created : info.created();
    }

    /** Does nothing: a save records the use, by the server's clock. */
    @Override
    public void setLastAccessedTime(Instant lastAccessedTime) {
        // See CoatcheckSessionRepository.save.
    }

    @Override
    public Instant getLastAccessedTime() {
        Info info = info();
        return info == null ? created : info.seen();
    }

    /**
     * Accepts the idle timeout that the session has, and no other: it never changes.
     *
     * @throws UnsupportedOperationException for another one
     */
    @Override
    public void setMaxInactiveInterval(Duration interval) {
        if (!interval.equals(getMaxInactiveInterval())) {
            throw new UnsupportedOperationException("the idle timeout of a session never changes: set Config.idleTimeout");
        }
    }

    @Override
    public Duration getMaxInactiveInterval() {
        return session == null ? Duration.between(listed.seen(), listed.expires()) : session.idleTimeout();
    }

    @Override
    public boolean isExpired() {
        return false; // the store returns no session that has expired
    }
}
