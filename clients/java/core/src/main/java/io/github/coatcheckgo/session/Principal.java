package io.github.coatcheckgo.session;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Who is signed in, as a record has it: the metadata "@u", and the info. */
record Principal(String owner, long authenticated, int level, boolean persistent, String info) {
    static final int MAX_INFO = 12288;

    /** The members of an info, in clear. */
    record Who(byte[] user, List<String> methods, String device, String agent, String address) {
        String encode() {
            Map<String, Object> members = new LinkedHashMap<>();
            members.put("user", Texts.base64(user));
            if (!methods.isEmpty()) {
                members.put("methods", methods);
            }
            put(members, "device", device);
            put(members, "agent", agent);
            put(members, "address", address);
            return Json.writeAscii(members);
        }

        private static void put(Map<String, Object> members, String name, String text) {
            if (!text.isEmpty()) {
                members.put(name, text);
            }
        }

        /** Returns what is out of its bounds, or null. */
        String check() {
            if (user.length == 0 || user.length > 256) {
                return "a user id has 1 to 256 bytes";
            }
            if (methods.size() > 16 || methods.stream().anyMatch(m -> tooLong(m, 32))) {
                return "there are at most 16 methods of at most 32 bytes";
            }
            if (tooLong(device, 128) || tooLong(agent, 512) || tooLong(address, 64)) {
                return "the device has at most 128 bytes, the agent 512, the address 64";
            }
            return null;
        }

        private static boolean tooLong(String text, int most) {
            return Texts.hasLoneSurrogate(text) || Texts.bytes(text).length > most;
        }
    }

    boolean sealed() {
        return info.startsWith("~");
    }

    /** Reads an info in clear. */
    static Who parse(String info) throws Malformed {
        Object json;
        try {
            json = Json.parse(info);
        } catch (SessionException e) {
            throw new Malformed("@i", e.getMessage());
        }
        if (!(json instanceof Map<?, ?> members)) {
            throw new Malformed("@i", "not an object");
        }
        byte[] user = {};
        List<String> methods = List.of();
        String[] texts = {"", "", ""};
        for (Map.Entry<?, ?> e : members.entrySet()) {
            int text = List.of("device", "agent", "address").indexOf(e.getKey());
            if (e.getKey().equals("methods")) {
                methods = texts(e.getValue());
            } else if (e.getKey().equals("user")) {
                user = Texts.fromBase64(text(e.getValue()));
            } else if (text >= 0) {
                texts[text] = text(e.getValue());
            } else {
                throw new Malformed("@i", "an unknown member");
            }
        }
        if (user == null) {
            throw new Malformed("@i", "the user is not base64url");
        }
        Who who = new Who(user, methods, texts[0], texts[1], texts[2]);
        String wrong = who.check();
        if (wrong != null) {
            throw new Malformed("@i", wrong);
        }
        return who;
    }

    private static String text(Object value) throws Malformed {
        if (value == null) {
            return "";
        }
        if (!(value instanceof String text)) {
            throw new Malformed("@i", "a member is not a text");
        }
        return text;
    }

    private static List<String> texts(Object value) throws Malformed {
        List<String> list = new ArrayList<>();
        if (value != null && !(value instanceof List<?>)) {
            throw new Malformed("@i", "the methods are not a list");
        }
        if (value != null) {
            for (Object e : (List<?>) value) {
                list.add(text(e));
            }
        }
        return list;
    }

    /** The last 7 characters of "@u". */
    String suffix() {
        return String.format("%02x%d%04x", level, persistent ? 1 : 0, Texts.bytes(info).length);
    }

    /** The parts of the info, with their names. */
    Map<String, String> parts() {
        Map<String, String> parts = new LinkedHashMap<>();
        for (int i = 0; i * 64 < info.length(); i++) {
            parts.put(i == 0 ? "@i" : "@i" + (i + 1), info.substring(i * 64, Math.min(info.length(), i * 64 + 64)));
        }
        return parts;
    }
}
