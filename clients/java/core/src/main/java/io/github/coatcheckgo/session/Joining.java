package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Moves {@link Config#userFields} from a session to the data of its user. The store does it in one
 * step that compares what was read. So nothing is lost or counted twice, whatever is repeated.
 */
final class Joining {
    private static final int ATTEMPTS = 20;

    private final Commits session;
    private final RequestState from;
    private final UserCommits commits;
    private final UserState into;

    Joining(Commits session, UserCommits commits) {
        this.session = session;
        from = session.s;
        this.commits = commits;
        into = commits.s;
    }

    /** Reports whether the stored session of the user has any of the user's fields. */
    private boolean isDue() {
        return into.owner.equals(from.owner()) && from.hasUserFields();
    }

    /**
     * Moves the fields, if the session has any. The caller holds both locks.
     *
     * @throws SessionException ENDED or UNAVAILABLE. TOO_LARGE, INVALID, DECODE or SEALED: they do
     *     not fit, and stay in the session
     */
    void join() {
        // A session that takes no changes keeps its fields
        for (int attempt = 0; isDue() && from.outcome.error == null; attempt++) {
            if (attempt == ATTEMPTS) {
                throw DataState.fail(Kind.UNAVAILABLE, "other requests keep changing " + into.about());
            }
            if (attempt > 1) {
                AtomicChanges.pause(attempt);
            }
            commits.ensureStored();
            if (!joinOnce()) {
                return;
            }
        }
    }

    /** Makes one attempt. Returns whether to make another one: others changed what was read. */
    private boolean joinOnce() {
        if (from.m.store.ends.refusal(from.token.id()) != null) {
            throw from.lost(Phase.ENDED);
        }
        TreeMap<String, byte[]> taken = new TreeMap<>();
        TreeMap<String, byte[]> joined = new TreeMap<>();
        try {
            plan(taken, joined);
        } catch (SessionException e) {
            throw refused(e);
        }
        Reply r;
        try {
            r = from.m.store.runOrBusy(Script.of("join.lua"), keys(), arguments(taken, joined));
        } catch (SessionException e) {
            if (e.kind() != Kind.UNKNOWN_OUTCOME) {
                throw e;
            }
            readBoth();
            return true;
        }
        switch (r.status()) {
            case "ok" -> {
                taken.keySet().forEach(from.view.record.fields::remove);
                from.view.show(from.view.record);
                into.view.record.fields.putAll(joined);
                into.view.show(into.view.record);
                return false;
            }
            case "busy" -> {
                return false; // a later request joins
            }
            case "none" -> into.show(null);
            case "gone" -> throw from.lost(Phase.ENDED);
            case "moved" -> {
                if (!from.adoptRotated()) {
                    throw from.lost(Phase.MOVED);
                }
            }
            case "refused" -> {
                if (!r.text(3).equals("conflict")) { // only the data has a limit
                    throw refused(Committer.refused(new ArrayList<>(joined.keySet()).get((int) r.number(2)), r.text(3)));
                }
                readBoth();
            }
            default -> throw r.unexpected("session " + from.token.id().handle());
        }
        return true;
    }

    private void readBoth() {
        try {
            Record data = into.load();
            from.become(session.reader.askAlive().record);
            into.show(data);
        } catch (SessionException e) {
            throw e.kind() != Kind.UNKNOWN_OUTCOME ? e
                : new SessionException(Kind.UNAVAILABLE, "joining the session and " + into.about(), e);
        }
    }

    /** Computes what to take from the session, and what the data has afterwards. */
    private void plan(TreeMap<String, byte[]> taken, TreeMap<String, byte[]> joined) {
        for (Map.Entry<String, byte[]> e : from.view.record.fields.entrySet()) {
            String name = e.getKey();
            Field field = from.m.userField(name);
            if (field == null) {
                continue;
            }
            taken.put(name, e.getValue());
            joined.put(name, field.adds() ? sum(name, stored(name), e.getValue())
                : from.m.keys.resealed(name, e.getValue(), from.secret, into.secret));
        }
    }

    private byte[] stored(String name) {
        return into.view.record.fields.get(name);
    }

    private static byte[] sum(String name, byte[] a, byte[] b) {
        try {
            return Texts.bytes(Long.toString(Math.addExact(Field.count(name, a), Field.count(name, b))));
        } catch (ArithmeticException e) {
            throw DataState.fail(Kind.INVALID, "field " + name + ": the sum does not fit in 64 bits");
        }
    }

    private List<String> keys() {
        SessionId id = from.token.id();
        String namespace = from.m.store.namespace;
        return List.of(id.key(namespace), into.key, id.revocationsKey(namespace));
    }

    private List<Object> arguments(TreeMap<String, byte[]> taken, TreeMap<String, byte[]> joined) {
        List<Object> args = new ArrayList<>(List.of(from.token.verifierHash(), from.m.config.maxSize, from.global(), 0, taken.size()));
        taken.forEach((name, value) -> args.addAll(List.of(name, value)));
        joined.forEach((name, value) -> args.addAll(List.of(name, Op.present(stored(name)), value)));
        return args;
    }

    private SessionException refused(SessionException e) {
        return new SessionException(e.kind(), "the fields of the session " + from.token.id().handle() + " do not fit into its user's data,"
            + " and stay in the session. Make room, or remove them from the session: Sessions.userData opens the data without them: "
            + e.getMessage(), e);
    }
}
