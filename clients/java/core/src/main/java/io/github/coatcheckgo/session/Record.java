package io.github.coatcheckgo.session;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;

/** A session as the store has it. */
final class Record {
    private static final long MAX_TIME = 253402300799999L;
    private static final long MAX_DURATION = 9223372036854L;
    static final String NO_HASH = "A".repeat(22);

    String id;
    String current;
    boolean unused;
    long revision;
    long size;
    long seen;
    long created;
    long deadline;
    long idle;

    boolean accepted; // the previous verifier, after a rotation
    String previous = ""; // none
    long previousTime; // while pending a duration
    long generation;
    long issued;

    long overtaken = -1; // a generation; none
    String overtakenUsed = "";

    Principal principal; // null: nobody is signed in
    Principal.Who who; // null if it is sealed
    final TreeMap<String, byte[]> fields = new TreeMap<>();

    /** What a key holds: a record, or a marker, whose time it is. */
    record Stored(Record record, boolean ended, boolean moved, long time) {}

    /** Reads the hash of a session. Names are bytes of ISO 8859-1. */
    static Stored parse(Map<String, byte[]> hash) throws Malformed {
        return parse(hash, true);
    }

    /** Reads the hash of a session, or only its metadata. */
    static Stored parse(Map<String, byte[]> hash, boolean withFields) throws Malformed {
        for (String marker : new String[] {"@ended", "@moved"}) {
            if (hash.containsKey(marker)) {
                return marker(marker, hash);
            }
        }
        Record r = new Record();
        Map<String, byte[]> meta = new TreeMap<>();
        long bytes = 0;
        for (Map.Entry<String, byte[]> e : hash.entrySet()) {
            String name = e.getKey();
            if (name.startsWith("@")) {
                meta.put(name, e.getValue());
                continue;
            }
            bytes += name.length() + e.getValue().length;
            String text = Texts.utf8(name.getBytes(StandardCharsets.ISO_8859_1));
            String wrong = text == null ? "the name is not UTF-8" : Names.check(text);
            if (wrong != null) {
                throw new Malformed(text == null ? name : text, wrong);
            }
            r.fields.put(text, e.getValue());
        }
        r.parseState(meta);
        r.parseLife(meta);
        r.parsePrevious(meta);
        r.parseUser(meta);
        r.parseMoving(meta);
        for (String name : meta.keySet()) {
            throw new Malformed(name, "unknown metadata");
        }
        if (withFields && r.size != bytes) {
            throw new Malformed("@s", "the size is not that of the fields");
        }
        if (r.principal == null && r.who == null) {
            return new Stored(r, false, false, 0);
        }
        if (!r.principal.sealed()) {
            r.who = Principal.parse(r.principal.info());
        }
        return new Stored(r, false, false, 0);
    }

    private static Stored marker(String name, Map<String, byte[]> hash) throws Malformed {
        boolean ended = name.equals("@ended");
        Parts p = new Parts(name, hash.get(name), ended ? 34 : 12);
        long time = p.number(12, MAX_TIME);
        if (ended) {
            p.hash();
        }
        if (hash.size() > 1) {
            throw new Malformed(name, "a marker has another name beside it");
        }
        return new Stored(null, ended, !ended, time);
    }

    private boolean leaving; // flag 2

    private void parseState(Map<String, byte[]> meta) throws Malformed {
        byte[] state = meta.remove("@s");
        if (state == null) {
            throw new Malformed("@s", "missing");
        }
        if (state.length == 0 || state[0] != '1') {
            throw new Malformed("@s", "another version of the format");
        }
        Parts p = new Parts("@s", state, 56);
        p.skip(1);
        long flags = p.number(1, 3);
        unused = (flags & 1) != 0;
        leaving = (flags & 2) != 0;
        current = p.hash();
        revision = p.number(12, Long.MAX_VALUE);
        size = p.number(8, Long.MAX_VALUE);
        seen = p.number(12, MAX_TIME);
    }

    private void parseLife(Map<String, byte[]> meta) throws Malformed {
        byte[] life = meta.remove("@l");
        if (life == null) {
            throw new Malformed("@l", "missing");
        }
        Parts p = new Parts("@l", life, 58);
        id = p.hash();
        created = p.number(12, MAX_TIME);
        deadline = p.number(12, MAX_TIME);
        idle = p.number(12, MAX_DURATION);
        issued = created;
    }

    private void parsePrevious(Map<String, byte[]> meta) throws Malformed {
        byte[] text = meta.remove("@previous");
        if (text != null) {
            Parts p = new Parts("@previous", text, 55);
            String state = p.take(1);
            accepted = state.equals("a");
            if (!accepted && !state.equals("r")) {
                throw new Malformed("@previous", "an unknown state");
            }
            previous = p.hash();
            previousTime = p.number(12, accepted && unused ? MAX_DURATION : MAX_TIME);
            generation = p.number(8, Long.MAX_VALUE);
            issued = p.number(12, MAX_TIME);
            if (previous.equals(NO_HASH)) {
                throw new Malformed("@previous", "the hash is zero");
            }
        } else if (unused) {
            throw new Malformed("@previous", "missing");
        }
        text = meta.remove("@overtaken");
        if (text != null) {
            Parts p = new Parts("@overtaken", text, 30);
            overtaken = p.number(8, Long.MAX_VALUE);
            overtakenUsed = p.hash();
        }
    }

    private void parseUser(Map<String, byte[]> meta) throws Malformed {
        byte[] text = meta.remove("@u");
        if (text == null) {
            return;
        }
        Parts p = new Parts("@u", text, 41);
        String owner = p.hash();
        long authenticated = p.number(12, MAX_TIME);
        int level = (int) p.number(2, 99);
        boolean persistent = p.number(1, 1) == 1;
        int length = (int) p.number(4, Principal.MAX_INFO);
        StringBuilder info = new StringBuilder();
        for (int i = 1; info.length() < length; i++) {
            String name = i == 1 ? "@i" : "@i" + i;
            byte[] part = meta.remove(name);
            if (part == null || part.length != Math.min(64, length - info.length())) {
                throw new Malformed(name, part == null ? "missing" : "of another length than \"@u\" says");
            }
            info.append(new String(part, StandardCharsets.ISO_8859_1));
        }
        principal = new Principal(owner, authenticated, level, persistent, info.toString());
        if (info.isEmpty()) {
            throw new Malformed("@i", "the info is empty");
        }
    }

    private void parseMoving(Map<String, byte[]> meta) throws Malformed {
        byte[] text = meta.remove("@moving");
        if ((text != null) != leaving) {
            throw new Malformed("@moving", leaving ? "missing" : "present without its flag");
        }
        if (text != null) {
            Parts p = new Parts("@moving", text, 34);
            p.hash();
            p.number(12, MAX_TIME);
        }
    }

    /** Cuts a text of metadata. */
    private static final class Parts {
        private final String name;
        private final String text;
        private int at;

        Parts(String name, byte[] bytes, int length) throws Malformed {
            this.name = name;
            text = new String(bytes, StandardCharsets.ISO_8859_1);
            if (bytes.length != length) {
                throw new Malformed(name, "of another length");
            }
        }

        void skip(int n) {
            at += n;
        }

        String take(int n) {
            at += n;
            return text.substring(at - n, at);
        }

        String hash() throws Malformed {
            String hash = take(22);
            if (!Texts.isHash(hash)) {
                throw new Malformed(name, "a hash of another form");
            }
            return hash;
        }

        long number(int width, long most) throws Malformed {
            long n = Texts.hex(take(width));
            if (n < 0 || n > most) {
                throw new Malformed(name, "a number of another form, or out of its range");
            }
            return n;
        }
    }

    long expires() {
        return Math.min(seen + idle, deadline);
    }

    /** How the record treats a verifier. */
    enum Status { CURRENT, GRACE, SUPERSEDED, UNKNOWN }

    Status status(String verifier, long now) {
        if (Crypto.equal(current, verifier)) {
            return Status.CURRENT;
        }
        boolean remembered = accepted && unused || now < previousTime;
        if (previous.isEmpty() || !Crypto.equal(previous, verifier) || !remembered) {
            return Status.UNKNOWN;
        }
        return accepted ? Status.GRACE : Status.SUPERSEDED;
    }

    /**
     * Reports whether a refused verifier's request may have been under way when the token changed.
     */
    boolean overlaps(String verifier, long began) {
        return !previous.isEmpty()
            && (began < issued || status(verifier, began) != Status.UNKNOWN || !accepted && began < previousTime);
    }

    /** Reports whether a refused verifier is stolen, unless the request overlapped the change. */
    boolean stolen(String verifier, long tokenGeneration) {
        long successor = tokenGeneration + 1;
        if (successor > generation || successor == generation && unused) {
            return false;
        }
        return overtaken != tokenGeneration || Crypto.equal(overtakenUsed, verifier);
    }

    long touchInterval() {
        return Math.min(idle / 20, 60_000);
    }

    /** Reports whether a use with this verifier must be recorded. "" stands for no verifier. */
    boolean touchDue(String verifier, long now) {
        return unused && current.equals(verifier) || Math.min(now + idle, deadline) - expires() > touchInterval();
    }

    /** Reports whether a rotation would take effect. */
    boolean rotationDue(String verifier, long minAge, long now) {
        boolean pending = accepted && unused;
        boolean may = current.equals(verifier) ? !pending && !(accepted && now < previousTime) : pending;
        return may && now - issued >= minAge;
    }
}
