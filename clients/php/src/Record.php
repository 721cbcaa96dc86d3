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

    // The forms of the values. A constant of another class would be put in anew in each request.
    private const HASH = '[A-Za-z0-9_-]{21}[AQgw]';
    private const TIME = '([0-9a-f]{12})';
    private const NUMBER = '([0-9a-f]{8})';
    private const STATE = '/\A1([0-3])(' . self::HASH . ')' . self::TIME . self::NUMBER . self::TIME . '\z/';
    private const LIFE = '/\A(' . self::HASH . ')' . self::TIME . self::TIME . self::TIME . '\z/';
    private const PREVIOUS = '/\A([ar])(' . self::HASH . ')' . self::TIME . self::NUMBER . self::TIME . '\z/';
    private const OVERTAKEN = '/\A' . self::NUMBER . '(' . self::HASH . ')\z/';
    private const USER = '/\A(' . self::HASH . ')' . self::TIME . '([0-9a-f]{2})([01])([0-9a-f]{4})\z/';
    private const MOVING = '/\A' . self::HASH . self::TIME . '\z/';

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

    /** A value was sealed when it was read. */
    public bool $sealed = false;

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
        $metadata = [];
        foreach ($hash as $name => $value) {
            if (\is_string($name) && $name !== '' && $name[0] === '@') {
                $metadata[$name] = $value;
            } else {
                $r->fields[$name] = $value;
            }
        }
        $r->decodeState($metadata['@s'] ?? throw new FormatException('@s', 'missing'));
        $r->decodeLife($metadata['@l'] ?? throw new FormatException('@l', 'missing'));
        if ($r->unused || $r->moving || \count($metadata) > 2) {
            $r->decodeRest($metadata);
        }
        if ($whole) {
            $r->checkFields();
        }
        return $r;
    }

    /** The record that create.lua has just stored. The arguments are those of the script. */
    public static function created(string $verifier, string $id, View $view, int $time, int $idle, int $lifetime, int $first): self
    {
        $r = new self();
        $r->current = $verifier;
        $r->id = $id;
        $r->revision = 1;
        $r->created = $time;
        $r->idle = $idle;
        $r->deadline = $time + $lifetime;
        $r->seen = $time - $idle + $first;
        $r->fields = $view->fields();
        $r->size = $view->size();
        return $r;
    }

    /** @return array<array-key, string> the parts that the form has in parentheses, from 1 on */
    private static function parts(string $name, string $text, string $form): array
    {
        if (\preg_match($form, $text, $parts) !== 1) {
            throw new FormatException($name, "\"$text\" does not have the form of the format");
        }
        return $parts;
    }

    /** A time or a duration. */
    private static function milliseconds(string $name, string $digits, int $most = Text::MAX_TIME): int
    {
        $n = (int) \hexdec($digits);
        return $n <= $most ? $n : throw new FormatException($name, "\"$digits\" is too large");
    }

    private function decodeState(string $text): void
    {
        if ($text !== '' && $text[0] !== '1') {
            throw new FormatException('@s', "version \"$text[0]\": a newer program wrote the session");
        }
        [, $flags, $this->current, $revision, $size, $seen] = self::parts('@s', $text, self::STATE);
        if ($flags !== '0') {
            $this->unused = $flags !== '2';
            $this->moving = $flags !== '1';
        }
        $this->revision = (int) \hexdec($revision);
        $this->size = (int) \hexdec($size);
        $this->seen = self::milliseconds('@s', $seen);
    }

    private function decodeLife(string $text): void
    {
        [, $this->id, $created, $deadline, $idle] = self::parts('@l', $text, self::LIFE);
        $this->created = self::milliseconds('@l', $created);
        $this->deadline = self::milliseconds('@l', $deadline);
        $this->idle = self::milliseconds('@l', $idle, Text::MAX_DURATION);
    }

    /**
     * Decodes what only sessions have that somebody signed in to, or whose token was replaced.
     *
     * @param array<string, string> $metadata
     */
    private function decodeRest(array $metadata): void
    {
        if ($this->moving !== isset($metadata['@moving'])) {
            throw new FormatException('@moving', 'it does not agree with the flags in @s');
        }
        if ($this->moving) {
            [, $until] = self::parts('@moving', $metadata['@moving'], self::MOVING);
            self::milliseconds('@moving', $until);
        }
        $this->decodePrevious($metadata['@previous'] ?? null);
        if (isset($metadata['@overtaken'])) {
            [, $generation, $this->overtakenHash] = self::parts('@overtaken', $metadata['@overtaken'], self::OVERTAKEN);
            $this->overtakenGeneration = (int) \hexdec($generation);
        }
        $infoSize = 0;
        if (isset($metadata['@u'])) {
            [, $this->owner, $authenticated, $level, $persistent, $size] = self::parts('@u', $metadata['@u'], self::USER);
            $this->authenticated = self::milliseconds('@u', $authenticated);
            $this->level = self::milliseconds('@u', $level, 99);
            $this->persistent = $persistent === '1';
            $infoSize = self::milliseconds('@u', $size, self::MAX_INFO);
        }
        unset($metadata['@s'], $metadata['@l'], $metadata['@previous'], $metadata['@overtaken'], $metadata['@u'], $metadata['@moving']);
        $this->joinInfo($metadata, $infoSize);
        if ($this->owner !== '' && !Keys::isSealed($this->info)) {
            Principal::decode($this->info);
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
        [, $state, $this->previous, $until, $generation, $issued] = self::parts('@previous', $text, self::PREVIOUS);
        $this->accepted = $state === 'a';
        if ($this->previous === Text::ZERO_HASH) {
            throw new FormatException('@previous', 'the hash is empty');
        }
        $this->until = self::milliseconds('@previous', $until, $this->pending() ? Text::MAX_DURATION : Text::MAX_TIME);
        $this->generation = (int) \hexdec($generation);
        $this->issued = self::milliseconds('@previous', $issued);
    }

    /** @param array<string, string> $parts by name: "@i", "@i2" and so on, and no others */
    private function joinInfo(array $parts, int $size): void
    {
        for ($i = 1, $left = $size; $left > 0; $i++, $left -= self::PART) {
            $name = $i === 1 ? '@i' : "@i$i";
            $part = $parts[$name] ?? '';
            if (\strlen($part) !== \min(self::PART, $left)) {
                throw new FormatException($name, 'missing, or of another length');
            }
            $this->info .= $part;
            unset($parts[$name]);
        }
        foreach ($parts as $name => $part) {
            throw new FormatException($name, 'unknown metadata, or a part after the end of the info');
        }
    }

    private function checkFields(): void
    {
        $size = 0;
        $sealed = false;
        foreach ($this->fields as $name => $value) {
            $name = (string) $name;
            $why = Text::nameProblem($name);
            if ($why !== null) {
                throw new FormatException($name, $why);
            }
            $size += \strlen($name) + \strlen($value);
            $sealed = $sealed || ($value[0] ?? '') === '~';
        }
        if ($sealed) {
            $this->sealed = true;
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
        foreach (\str_split($info, self::PART) as $i => $part) {
            \array_push($arguments, $i === 0 ? '@i' : '@i' . ($i + 1), $part);
        }
        return $arguments;
    }

    /**
     * The names and values of fields, as the scripts get them.
     *
     * @param array<array-key, string> $fields
     * @return list<string>
     */
    public static function fieldArguments(array $fields): array
    {
        $arguments = [];
        foreach ($fields as $name => $value) {
            \array_push($arguments, (string) $name, $value);
        }
        return $arguments;
    }

    // Decisions

    public function expires(): int
    {
        return \min($this->seen + $this->idle, $this->deadline);
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
        if (\hash_equals($this->current, $verifier)) {
            return 'current';
        }
        if ($this->previous === '' || !\hash_equals($this->previous, $verifier) || !$this->pending() && $now >= $this->until) {
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
        if ($this->overtakenGeneration === $generation && !\hash_equals($this->overtakenHash, $verifier)) {
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
        return $this->unused && !$issuedByRequest && \hash_equals($this->current, $verifier)
            || \min($now + $this->idle, $this->deadline) - $this->expires() > \min($this->idle / 20, 60000);
    }

    /** Reports whether apply.lua would rotate the token for a request with this verifier. */
    public function rotationDue(string $verifier, int $minAge, int $now): bool
    {
        $may = $this->pending();
        if (\hash_equals($this->current, $verifier)) {
            $may = !$may && !($this->accepted && $now < $this->until);
        }
        return $may && $now - ($this->previous === '' ? $this->created : $this->issued) >= $minAge;
    }
}
