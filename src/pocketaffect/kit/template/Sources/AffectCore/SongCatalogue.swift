import Foundation

/// One song of a catalogue.
public struct Song: Codable, Equatable, Identifiable, Sendable {
    public let id: String
    public let title: String
    public let artist: String
    public let year: Int?
    public let genres: [String]
    /// 0 (sad) to 1 (cheerful).
    public let valence: Double
    /// 0 (calm) to 1 (intense).
    public let energy: Double
    /// 1 (major), 0 (minor), or unknown.
    public let mode: Int?

    /// The address that opens Apple Music's search for the song, without account or key.
    public var searchURL: URL? {
        var address = URLComponents(string: "https://music.apple.com/search")
        address?.queryItems = [URLQueryItem(name: "term", value: "\(artist) \(title)")]
        return address?.url
    }
}

/// Songs, and the paper's mapping from an affect to five of them (Hewitt & Gunes 2018).
public struct SongCatalogue: Codable, Sendable {
    /// Weights of the mapping's parts; they sum to 1.
    public struct Mapping: Codable, Sendable {
        /// How likely the face shows an expression of the song's genres.
        public let genre: Double
        /// How near the song's valence and energy are to the face's.
        public let closeness: Double
        /// Whether the song is major for a pleasant face, minor for an unpleasant one.
        public let mode: Double
    }

    /// The genres of each expression, by its name.
    public let genres: [String: [String]]
    public let mapping: Mapping
    public let songs: [Song]

    /// Reads a catalogue of the form of `songs.json`.
    public init(json: Data) throws {
        self = try JSONDecoder().decode(SongCatalogue.self, from: json)
    }

    /// The catalogue that comes with this package.
    public static func bundled() throws -> SongCatalogue {
        guard let file = Bundle.module.url(forResource: "songs", withExtension: "json") else {
            throw CocoaError(.fileNoSuchFile)
        }
        return try SongCatalogue(json: Data(contentsOf: file))
    }

    /// How well each song fits an affect, 0 to 1, in the order of `songs`.
    public func scores(for affect: Affect) -> [Double] {
        var perGenre: [String: Double] = [:]
        for expression in FaceExpression.allCases {
            for genre in genres[expression.rawValue] ?? [] { perGenre[genre, default: 0] += affect[expression] }
        }
        let toShare = { (value: Double) in (min(1, max(-1, value)) + 1) / 2 }
        let (valence, energy) = (toShare(affect.valence), toShare(affect.arousal))
        return songs.map { song in
            let genre = song.genres.map { perGenre[$0] ?? 0 }.max() ?? 0
            let apart = hypot(song.valence - valence, song.energy - energy)
            let major = song.mode.map(Double.init) ?? 0.5
            return mapping.genre * genre
                + mapping.closeness * (1 - apart / 2.0.squareRoot())
                + mapping.mode * (valence >= 0.5 ? major : 1 - major)
        }
    }

    /// Suggests songs, best first, one for each artist; fewer where there are fewer songs.
    ///
    /// - Parameter recent: Ids of songs that were heard: they come back only where nothing else is left.
    public func suggest(for affect: Affect, recent: Set<String> = [], count: Int = 5) -> [Song] {
        let scores = scores(for: affect)
        let order = songs.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }
        let heard = { recent.contains(songs[$0].id) }
        var artists: Set<String> = []
        var chosen: [Int] = []
        var postponed: [Int] = []
        for index in order.filter({ !heard($0) }) + order.filter(heard) {
            if !heard(index), artists.insert(songs[index].artist.lowercased()).inserted {
                chosen.append(index)
            } else {
                postponed.append(index)
            }
        }
        return (chosen + postponed).prefix(count).map { songs[$0] }
    }
}
