<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * A session as it is stored. Times and durations are milliseconds, by the server's clock.
 *
 * @internal
 */
final class Record
{
    private const PART = 64;
    private const MAX_INFO = 12288;

    // @s and @l
    public string $current = '';
    public bool $unused = false;
    public int $revision = 0;
    public int $size = 0;
    public int $seen = 0;
    public string $id = '';
    public int $created = 0;
    public int $deadline = 0;
    public int $idle = 0;

    // @previous and @overtaken. Without @previous, $previous is ''. $until is the grace period, a
    // duration, while $accepted and $unused are set.
    public string $previous = '';
    public bool $accepted = false;
    public int $until = 0;
    public int $generation = 0;
    public int $issued = 0;
    public ?int $overtakenGeneration = null;
    public string $overtakenHash = '';

    // @u and the info. $owner is '' if nobody is signed in.
    public string $owner = '';
    public int $authenticated = 0;
    public int $level = 0;
    public bool $persistent = false;
    public string $info = '';

    public bool $moving = false;

    /**
     * @var array<array-key, string> stored texts by name. Cast each key to a string: PHP has made
     *     "1" an integer
     */
    public array $fields = [];

    /**
     * @param array<array-key, string> $hash all names and values
     * @param bool $whole false: the hash has metadata only
     */
    public static function decode(array $hash, bool $whole = true): self
    {
        $r = new self();
        $parts = [];
        $infoSize = 0;
        foreach ($hash as $name => $value) {
            $name = (string) $name;
            if (!str_starts_with($name, '@')) {
                if ($whole) {
                    $r->fields[$name] = $value;
                }
            } elseif (preg_match('/\A@i([2-9]|[1-9][0-9]{1,2})?\z/', $name, $match) === 1 && ($i = (int) ($match[1] ?? 1)) <= 192) {
                $parts[$i] = $value;
            } elseif (!in_array($name, ['@s', '@l', '@previous', '@overtaken', '@u', '@moving'], true)) {
                throw new FormatException($name, 'unknown metadata');
            }
        }
        $r->decodeState($hash['@s'] ?? throw new FormatException('@s', 'missing'));
        $r->decodeLife($hash['@l'] ?? throw new FormatException('@l', 'missing'));
        $r->decodeMoving($hash['@s'], $hash['@moving'] ?? null);
        $r->decodePrevious($hash['@previous'] ?? null);
        if (isset($hash['@overtaken'])) {
            $p = new Packed('@overtaken', $hash['@overtaken'], 30);
            $r->overtakenGeneration = $p->number(8, 0xffffffff);
            $r->overtakenHash = $p->hash();
        }
        if (isset($hash['@u'])) {
            $p = new Packed('@u', $hash['@u'], 41);
            $r->owner = $p->hash();
            $r->authenticated = $p->number(12);
            $r->level = $p->number(2, 99);
            $r->persistent = $p->number(1, 1) === 1;
            $infoSize = $p->number(4, self::MAX_INFO);
        }
        $r->joinInfo($parts, $infoSize);
        if ($r->owner !== '' && !Keys::isSealed($r->info)) {
            Principal::decode($r->info);
        }
        if ($whole) {
            $r->checkFields();
        }
        return $r;
    }

    private function decodeState(string $text): void
    {
        if ($text !== '' && $text[0] !== '1') {
            throw new FormatException('@s', "version \"$text[0]\": a newer program wrote the session");
        }
        $p = new Packed('@s', $text, 56);
        $p->cut(1);
        $this->unused = ($p->number(1, 3) & 1) === 1;
        $this->current = $p->hash();
        $this->revision = $p->number(12, 0xffffffffffff);
        $this->size = $p->number(8, 0xffffffff);
        $this->seen = $p->number(12);
    }

    private function decodeLife(string $text): void
    {
        $p = new Packed('@l', $text, 58);
        $this->id = $p->hash();
        $this->created = $p->number(12);
        $this->deadline = $p->number(12);
        $this->idle = $p->number(12, Text::MAX_DURATION);
    }

    private function decodeMoving(string $state, ?string $text): void
    {
        $this->moving = $state[1] >= '2';
        if ($this->moving !== ($text !== null)) {
            throw new FormatException('@moving', 'it does not agree with the flags in @s');
        }
        if ($text !== null) {
            $p = new Packed('@moving', $text, 34);
            $p->hash();
            $p->number(12);
        }
    }

    private function decodePrevious(?string $text): void
    {
        if ($text === null) {
            if ($this->unused) {
                throw new FormatException('@previous', 'missing, although the verifier replaced another');
            }
            return;
        }
        $p = new Packed('@previous', $text, 55);
        $state = $p->cut(1);
        if ($state !== 'a' && $state !== 'r') {
            throw new FormatException('@previous', "state \"$state\"");
        }
        $this->accepted = $state === 'a';
        $this->previous = $p->hash();
        if ($this->previous === Text::ZERO_HASH) {
            throw new FormatException('@previous', 'the hash is empty');
        }
        $this->until = $p->number(12, $this->pending() ? Text::MAX_DURATION : Text::MAX_TIME);
        $this->generation = $p->number(8, 0xffffffff);
        $this->issued = $p->number(12);
    }

    /** @param array<int, string> $parts */
    private function joinInfo(array $parts, int $size): void
    {
        $count = intdiv($size + self::PART - 1, self::PART);
        if ($parts !== [] && max(array_keys($parts)) > $count) {
            throw new FormatException('@i', 'a part is after the end of the info');
        }
        for ($i = 1; $i <= $count; $i++) {
            $part = $parts[$i] ?? '';
            if (strlen($part) !== min(self::PART, $size - self::PART * ($i - 1))) {
                throw new FormatException($i === 1 ? '@i' : "@i$i", 'missing, or of another length');
            }
            $this->info .= $part;
        }
    }

    private function checkFields(): void
    {
        $size = 0;
        foreach ($this->fields as $name => $value) {
            $name = (string) $name;
            $why = Text::nameProblem($name);
            if ($why !== null) {
                throw new FormatException($name, $why);
            }
            $size += strlen($name) + strlen($value);
        }
        if ($size !== $this->size) {
            throw new FormatException('@s', "the fields have $size bytes, not $this->size");
        }
    }

    /**
     * The names and values that describe a user, as the scripts get them.
     *
     * @return list<string>
     */
    public static function infoArguments(string $info): array
    {
        $arguments = [];
        foreach (str_split($info, self::PART) as $i => $part) {
            array_push($arguments, $i === 0 ? '@i' : '@i' . ($i + 1), $part);
        }
        return $arguments;
    }

    // Decisions

    public function expires(): int
    {
        return min($this->seen + $this->idle, $this->deadline);
    }

    public function isLive(int $now): bool
    {
        return $now < $this->expires();
    }

    /** Rotated, and the new verifier was not used yet. */
    private function pending(): bool
    {
        return $this->accepted && $this->unused;
    }

    /** "current", "grace", "superseded" or "unknown". */
    public function status(string $verifier, int $now): string
    {
        if (hash_equals($this->current, $verifier)) {
            return 'current';
        }
        if ($this->previous === '' || !hash_equals($this->previous, $verifier) || !$this->pending() && $now >= $this->until) {
            return 'unknown';
        }
        return $this->accepted ? 'grace' : 'superseded';
    }

    /** Reports whether the request overlapped the change of its token. $began is when it began. */
    public function overlaps(string $verifier, int $began): bool
    {
        return $began < $this->issued || $this->status($verifier, $began) !== 'unknown'
            || $this->previous !== '' && !$this->accepted && $began < $this->until;
    }

    public function isStolen(string $verifier, int $generation, int $began): bool
    {
        $successor = $generation + 1;
        if ($successor > $this->generation || $successor === $this->generation && $this->unused) {
            return false;
        }
        if ($this->overtakenGeneration === $generation && !hash_equals($this->overtakenHash, $verifier)) {
            return false;
        }
        return !$this->overlaps($verifier, $began);
    }

    /** @param string $verifier the one that the client has shown; '': the request issued it */
    public function touchDue(string $verifier, int $now): bool
    {
        $issuedByRequest = $verifier === '';
        if ($issuedByRequest && $this->seen < $this->created) {
            return false; // not the first use
        }
        return $this->unused && !$issuedByRequest && hash_equals($this->current, $verifier)
            || min($now + $this->idle, $this->deadline) - $this->expires() > min($this->idle / 20, 60000);
    }

    /** Reports whether apply.lua would rotate the token for a request with this verifier. */
    public function rotationDue(string $verifier, int $minAge, int $now): bool
    {
        $may = $this->pending();
        if (hash_equals($this->current, $verifier)) {
            $may = !$may && !($this->accepted && $now < $this->until);
        }
        return $may && $now - ($this->previous === '' ? $this->created : $this->issued) >= $minAge;
    }
}
