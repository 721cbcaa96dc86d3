package io.github.coatcheckgo.session;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/**
 * The fields as a request sees them: the record as last read or committed, with the request's own
 * changes.
 */
final class View {
    private final int maxSize;
    Record record; // null: not stored
    TreeMap<String, byte[]> fields = new TreeMap<>(); // with the request's changes
    final List<Op> ops = new ArrayList<>(); // the changes, which are not committed
    private long now; // the server's time when the record was read
    private long readAt; // System.nanoTime then

    View(int maxSize) {
        this.maxSize = maxSize;
    }

    /** Shows this record, or none, and makes the request's changes again. */
    void show(Record r) {
        record = r;
        fields = r == null ? new TreeMap<>() : new TreeMap<>(r.fields);
        replay();
    }

    private void replay() {
        for (Op op : ops) {
            try {
                op.apply(fields, maxSize);
            } catch (SessionException e) {
                // The commit will refuse it.
            }
        }
    }

    /** Notes the server's time. */
    void at(long time) {
        now = time;
        readAt = System.nanoTime();
    }

    /** Estimates the server's time, from the last reply that had it. */
    long serverTime() {
        return now + (System.nanoTime() - readAt) / 1_000_000;
    }

    /**
     * Makes a change, for the next commit.
     *
     * @throws SessionException TOO_LARGE or INVALID
     */
    void change(Op op) {
        op.apply(fields, maxSize);
        buffer(op);
    }

    /** Keeps an operation. A loop of changes to one value is one operation. */
    private void buffer(Op op) {
        if (op.kind().equals("clear")) {
            ops.clear();
        }
        Op last = ops.isEmpty() ? null : ops.get(ops.size() - 1);
        if (last != null && last.key().equals(op.key()) && !op.key().isEmpty()) {
            boolean replaces = (op.kind().equals("set") || op.kind().equals("unset")) && !last.kind().equals("unset-entries");
            if (replaces) {
                ops.set(ops.size() - 1, op);
                return;
            }
            if (op.kind().equals("add") && last.kind().equals("add")) {
                long a = Long.parseLong(Texts.utf8(last.a()));
                long b = Long.parseLong(Texts.utf8(op.a()));
                if ((a >= 0) == (b >= 0) && (a + b >= 0) == (a >= 0)) {
                    ops.set(ops.size() - 1, Op.add(op.key(), a + b));
                    return;
                }
            }
        }
        ops.add(op);
    }

    /**
     * Drops the changes that are not committed. Then the fields are those of the record, or none.
     */
    void discard(boolean live) {
        ops.clear();
        fields = live ? new TreeMap<>(record.fields) : new TreeMap<>();
    }

    /**
     * Makes the record what a commit has left: what the request has changed reads as it left it.
     */
    void settle(List<Op> done, List<String> values) {
        TreeMap<String, byte[]> stored = record.fields;
        for (int i = 0; i < done.size(); i++) {
            Op op = done.get(i);
            String value = i < values.size() ? values.get(i) : null;
            switch (op.kind()) {
                case "add" -> {
                    if (value != null) {
                        stored.put(op.key(), Texts.bytes(value));
                    }
                }
                case "take" -> stored.remove(op.key());
                case "swap" -> {
                    if (op.swapped() != null) {
                        stored.put(op.key(), op.swapped());
                    } else {
                        stored.remove(op.key());
                    }
                }
                default -> op.apply(stored, Integer.MAX_VALUE);
            }
        }
        show(record);
    }
}
