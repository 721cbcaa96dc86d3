package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** Stores the changes of a {@link Data}, each time in one atomic step. */
abstract class Committer {
    static final long SLACK = 2000; // the script may run up to the timeout later

    private final DataState s;
    private Sent last; // the last change that was stored
    byte[] lastValue; // the value of the last operation, as bytes
    CompletableFuture<?> touching;

    Committer(DataState s) {
        this.s = s;
    }

    /** An operation that the store refused for what it compares, and the value that is stored. */
    static final class Refused extends RuntimeException {
        private static final long serialVersionUID = 1;
        final transient Op op;
        final transient byte[] present;

        Refused(Op op, byte[] present) {
            super(null, null, false, false);
            this.op = op;
            this.present = present;
        }
    }

    /** What was stored, and the values of the operations. A new record is known as it is stored. */
    record Sent(List<Op> ops, List<String> values, boolean created) {}

    /**
     * Commits the changes, and more operations. Returns the values of the operations.
     *
     * @throws Refused if the store refused one of those more
     */
    abstract List<String> send(List<Op> more);

    /** Reads what is stored. What the request changed, with these values, reads as it left it. */
    abstract void reread(List<Op> done, List<String> values);

    /** Commits the changes, and makes the view exact. */
    void commit() {
        send(List.of());
        if (!last.created) {
            reread(last.ops, last.values);
        }
    }

    /** Sends the changes, and notes what came of it. */
    final List<String> settle(Supplier<Sent> transmit) {
        try {
            last = transmit.get();
            s.view.ops.clear();
            if (s.view.record != null) {
                s.view.settle(last.ops, last.values);
            }
            return last.values;
        } catch (SessionException e) {
            s.outcome.keep(e);
            throw e;
        }
    }

    /** Returns the changes, and more operations. */
    final List<Op> changes(List<Op> more) {
        List<Op> all = new ArrayList<>(s.view.ops);
        all.addAll(more);
        return all;
    }

    /** Returns the value that the last "take" removed. */
    byte[] taken() {
        return lastValue;
    }

    // A new record.

    /** Makes operations on the fields of a new record. Returns their values. */
    final List<String> makeAll(List<Op> ops, TreeMap<String, byte[]> fields) {
        int maxSize = s.m.config.maxSize;
        List<String> values = new ArrayList<>();
        ops.forEach(op -> values.add(make(op, fields)));
        if (Op.size(fields) > maxSize) {
            throw DataState.fail(Kind.TOO_LARGE, "more than " + maxSize + " bytes");
        }
        return values;
    }

    /** Makes an operation on the fields of a new record, as apply.lua does. Returns its value. */
    private String make(Op op, TreeMap<String, byte[]> fields) {
        byte[] old = fields.get(op.key());
        switch (op.kind()) {
            case "take" -> {
                fields.remove(op.key());
                lastValue = old;
                return old == null ? null : Texts.utf8(old);
            }
            case "swap" -> {
                if (!Arrays.equals(op.a(), Op.present(old))) {
                    throw new Refused(op, old);
                }
                fields.put(op.key(), op.swapped());
                return null;
            }
            default -> {
                op.apply(fields, s.m.config.maxSize);
                if (op.exceeds(old, fields)) {
                    throw new Refused(op, old);
                }
                return op.kind().equals("add") ? Texts.utf8(fields.get(op.key())) : null;
            }
        }
    }

    /** Stores a new record with create.lua. */
    final Reply runCreate(String id, String key, String verifier, TreeMap<String, byte[]> fields, long idle, long lifetime, long first) {
        List<Object> args = new ArrayList<>(List.of(id, verifier, Op.size(fields), idle, lifetime, first, 0));
        fields.forEach((name, value) -> args.addAll(List.of(name, value)));
        return s.m.store.run("create.lua", Repeat.ALWAYS, List.of(key), args);
    }

    // A stored record.

    /** Returns the values in a reply of apply.lua, of which the first one is at this index. */
    final List<String> applied(Reply r, List<Op> all, int first) {
        if (r.number(1) > 0) {
            s.view.at(r.number(1));
        }
        List<String> values = new ArrayList<>();
        for (int i = 0; i < all.size(); i++) {
            values.add(r.text(first + i));
        }
        lastValue = all.isEmpty() ? null : r.bytes(first + all.size() - 1);
        return values;
    }

    /** Returns the error of a refused operation. */
    static RuntimeException refused(Reply r, List<Op> all) {
        Op op = all.get((int) r.number(1));
        String why = r.text(2);
        if (why.equals("conflict") || why.equals("entries")) {
            return new Refused(op, r.bytes(3));
        }
        return refused(op.key(), why);
    }

    static SessionException refused(String name, String why) {
        boolean large = why.equals("large") || why.equals("fields");
        return DataState.fail(large ? Kind.TOO_LARGE : Kind.INVALID, "field " + name + ": " + why);
    }

    /** Waits for the last touch, for tests. */
    final void awaitTouch() {
        if (touching != null) {
            touching.exceptionally(e -> null).orTimeout(5, TimeUnit.SECONDS).exceptionally(e -> null).join();
        }
    }
}
