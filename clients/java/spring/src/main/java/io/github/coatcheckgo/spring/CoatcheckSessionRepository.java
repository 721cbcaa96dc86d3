package io.github.coatcheckgo.spring;

import io.github.coatcheckgo.session.Info;
import io.github.coatcheckgo.session.Login;
import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.SessionException;
import io.github.coatcheckgo.session.Sessions;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Function;
import org.springframework.session.FindByIndexNameSessionRepository;

/**
 * A Spring Session repository on Coatcheck: a change of an attribute is a change of that field
 * alone, and the first save with a principal is a sign-in. See the README for what Spring's
 * interfaces cannot promise.
 */
public final class CoatcheckSessionRepository implements FindByIndexNameSessionRepository<CoatcheckSession> {
    private final Sessions sessions;
    private final Attributes attributes;
    private Function<String, Login> login = Login::user;

    public CoatcheckSessionRepository(Sessions sessions, Attributes attributes) {
        this.sessions = sessions;
        this.attributes = attributes;
    }

    /** Sets what a sign-in records, such as the device. Default: only the principal's name. */
    public CoatcheckSessionRepository login(Function<String, Login> ofPrincipal) {
        login = ofPrincipal;
        return this;
    }

    @Override
    public CoatcheckSession createSession() {
        return new CoatcheckSession(sessions.begin((String) null).read(), null, attributes);
    }

    /**
     * Stores what was changed, in one atomic step, or signs the principal in, or records the use.
     *
     * @throws SessionException if it was not stored. ENDED: the session ended while the request was
     *     running
     */
    @Override
    public void save(CoatcheckSession session) {
        Session s = session.session();
        String user = session.takeSignIn();
        if (user != null) {
            s.signIn(login.apply(user));
            session.forgetDecoded();
        } else {
            s.commitOnly(true);
        }
        session.learnId();
        s.touch();
    }

    /**
     * Returns the session that a token opens, or null. A handle opens none. A session that got a
     * new token a moment ago is returned empty, and takes no changes.
     */
    @Override
    public CoatcheckSession findById(String id) {
        if (!sessions.isToken(id)) {
            return null;
        }
        Session s = sessions.begin(id).read();
        return s.handle().isEmpty() && !s.isOver() ? null : new CoatcheckSession(s, id, attributes);
    }

    /** Ends a session, by its token, or by the handle of a session of a list. */
    @Override
    public void deleteById(String id) {
        if (sessions.isToken(id)) {
            sessions.begin(id).signOut();
        } else if (!id.startsWith("new-")) {
            sessions.end(id);
        }
    }

    /**
     * Returns the principal's sessions by their handles, without attributes. Another index is
     * empty.
     */
    @Override
    public Map<String, CoatcheckSession> findByIndexNameAndIndexValue(String indexName, String indexValue) {
        Map<String, CoatcheckSession> found = new LinkedHashMap<>();
        if (PRINCIPAL_NAME_INDEX_NAME.equals(indexName)) {
            for (Info info : sessions.sessions(indexValue)) {
                found.put(info.handle(), new CoatcheckSession(info));
            }
        }
        return found;
    }
}
