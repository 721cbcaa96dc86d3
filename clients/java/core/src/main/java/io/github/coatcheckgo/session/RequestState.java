package io.github.coatcheckgo.session;

import java.util.List;
import java.util.function.Supplier;

/** What the parts of a {@link Session} share. They hold the lock while they use it. */
final class RequestState extends DataState {
    final Credentials credentials;
    /** Returns why another site caused the request, or null. */
    final Supplier<String> crossOrigin;
    final long began = System.nanoTime();
    final Response response;

    Token token; // the session's own; null: none
    Principal.Who who; // null: nobody is signed in
    volatile boolean passive; // the request is no use of the session
    boolean named; // a read of this request has found the session

    RequestState(Sessions m, Credentials credentials, Supplier<String> crossOrigin) {
        super(m);
        this.credentials = credentials;
        response = new Response(credentials);
        this.crossOrigin = crossOrigin;
        if (!credentials.tokens.isEmpty()) {
            token = credentials.tokens.get(0);
        }
    }

    /** Seals the values of operations again, which are sealed for one id, for another. */
    List<Op> reseal(List<Op> ops, String from, String to) {
        return from == null || from.equals(to) ? ops : ops.stream().map(op -> op.resealed(m.keys, from, to)).toList();
    }

    /** Shows no session. */
    void reset(Phase to) {
        boolean keep = phase == Phase.ANONYMOUS;
        phase = to;
        who = null;
        if (!keep) {
            secret = null;
        }
        view.show(null);
    }

    void cannotRead(SessionException e) {
        reset(Phase.FAILED);
        readError = e;
        outcome.error = e;
    }

    /** Shows a session that is alive. */
    void become(Record r) {
        try {
            r.fields.forEach(m.keys::check);
            Principal.Who opened = m.who(token.id(), r);
            phase = Phase.LIVE;
            who = opened;
            secret = r.id;
            named = true;
            view.show(r);
        } catch (SessionException e) {
            cannotRead(e);
        }
    }

    /** Notes that the session is over, and returns the error. */
    SessionException lost(Phase to) {
        phase = to;
        who = null;
        response.setCookie = false;
        return ended();
    }

    /**
     * Goes on with the token that this request rotated to, if there is one: the browser has used
     * it.
     */
    boolean adoptRotated() {
        if (response.rotatedTo == null) {
            return false;
        }
        token = response.rotatedTo;
        response.rotatedTo = null;
        phase = Phase.LIVE;
        return true;
    }

    boolean isOver() {
        return phase == Phase.ENDED || phase == Phase.MOVED;
    }

    /** Returns the hash that names the user who is signed in, or null. */
    String owner() {
        return phase == Phase.LIVE && who != null ? view.record.principal.owner() : null;
    }

    /** Reports whether the stored session has any of {@link Config#userFields}. */
    boolean hasUserFields() {
        return phase == Phase.LIVE && view.record.fields.keySet().stream().anyMatch(name -> m.userField(name) != null);
    }

    /** Returns the keys of scripts that change the session. */
    List<String> keys() {
        SessionId id = token.id();
        String key = id.key(m.store.namespace);
        return view.record.principal == null ? List.of(key) : List.of(key, id.revocationsKey(m.store.namespace));
    }

    /**
     * Returns the time of the last revocation of everybody, or 0 if the session was created later.
     */
    long global() {
        long known = m.store.knownRevoked();
        return view.record.created > known ? 0 : known;
    }

    /** Returns the verifier whose use the request shows; "" for none. */
    String shown() {
        return response.bringsToken() ? "" : token.verifierHash();
    }

    boolean isPersistent() {
        return view.record.principal == null ? m.config.persistent : view.record.principal.persistent();
    }
}
