import AffectCore
import XCTest

/// Holds AffectCore to pocketaffect's Python: exact for integers, 1e-6 for floats, 1 of 255 for pixels.
final class GoldenTests: XCTestCase {
    private static let golden = Result { try Golden.read() }
    private func golden() throws -> Golden { try Self.golden.get() }

    func testBoxesGiveTheSquaresOfTraining() throws {
        for asked in try golden().boxes {
            let square = CropSquare(
                around: FaceBox(asked.box), margin: asked.margin, imageWidth: asked.image[0], imageHeight: asked.image[1]
            )
            XCTAssertEqual(square.map { [$0.left, $0.top, $0.side] }, asked.square, "\(asked.box)")
        }
    }

    func testVisionsBoxesBecomePixels() throws {
        for asked in try golden().boxes {
            let box = FaceBox(
                normalizedX: asked.vision[0], normalizedY: asked.vision[1],
                normalizedWidth: asked.vision[2], normalizedHeight: asked.vision[3],
                imageWidth: asked.image[0], imageHeight: asked.image[1]
            )
            assertClose([box.x, box.y, box.width, box.height], asked.box)
        }
    }

    func testPicturesGiveTheCropsOfTraining() throws {
        for asked in try golden().crops {
            let (width, height) = (asked.image[0], asked.image[1])
            let square = CropSquare(left: asked.square[0], top: asked.square[1], side: asked.square[2])
            let rgb = drawPicture(width: width, height: height)
            let crop = PixelGrid(width: width, height: height, format: .rgb).cut(square, from: rgb, size: asked.size)
            assertAlike(crop, asked.pixels)
            // A camera's frame: another order of bytes, and rows with bytes between them.
            var frame = [UInt8]()
            for y in 0..<height {
                for x in 0..<width {
                    let place = 3 * (y * width + x)
                    frame += [rgb[place + 2], rgb[place + 1], rgb[place], 7]
                }
                frame += [UInt8](repeating: 99, count: 20)
            }
            let grid = PixelGrid(width: width, height: height, format: .bgra, bytesPerRow: 4 * width + 20)
            XCTAssertEqual(grid.cut(square, from: frame, size: asked.size), crop)
        }
    }

    func testStoredPicturesAreTurnedUpright() throws {
        XCTAssertEqual(try golden().turns.count, ImageOrientation.allCases.count)
        for asked in try golden().turns {
            let grid = PixelGrid(
                width: asked.image[0], height: asked.image[1], format: .rgb,
                orientation: try XCTUnwrap(ImageOrientation(rawValue: asked.orientation))
            )
            let whole = FaceBox(x: 0, y: 0, width: Double(grid.width), height: Double(grid.height))
            let square = try XCTUnwrap(
                CropSquare(around: whole, margin: 0, imageWidth: grid.width, imageHeight: grid.height)
            )
            let picture = drawPicture(width: asked.image[0], height: asked.image[1])
            XCTAssertEqual(grid.cut(square, from: picture, size: square.side), [UInt8](asked.pixels), "\(asked.orientation)")
        }
    }

    func testOutputsGiveAnswers() throws {
        for asked in try golden().answers {
            let facts = try ModelFacts(metadata: asked.metadata)
            let affect = facts.affect(probabilities: asked.probabilities, valenceArousal: asked.valenceArousal)
            assertClose(affect.numbers, asked.affect)
            XCTAssertEqual(affect.expression, asked.expression)
            XCTAssertEqual(facts.isUnsure(affect), asked.unsure)
        }
    }

    func testFacesAreComparedWithTheNeutralOne() throws {
        for asked in try golden().neutral {
            let compared = NeutralBaseline(neutral: Affect(asked.neutral)).compare(Affect(asked.affect))
            assertClose(compared.numbers, asked.compared)
        }
    }

    func testFilmsGiveSmoothedTracks() throws {
        for film in try golden().films {
            var (tracker, smoother) = (FaceTracker(), Smoother(timeConstant: film.timeConstant))
            for frame in film.frames {
                let tracks = tracker.follow(frame.boxes.map(FaceBox.init), at: frame.seconds)
                XCTAssertEqual(tracks, frame.tracks, "at \(frame.seconds) s")
                for (place, track) in tracks.enumerated() {
                    let smoothed = smoother.smooth(Affect(frame.affects[place]), track: track, at: frame.seconds)
                    assertClose(smoothed.numbers, frame.smoothed[place])
                }
            }
        }
    }

    func testAffectsGiveSongs() throws {
        let catalogue = try SongCatalogue.bundled()
        for asked in try golden().songs {
            let affect = Affect(asked.affect)
            let songs = catalogue.suggest(for: affect, recent: Set(asked.recent))
            XCTAssertEqual(songs.map(\.id), asked.songs)
            let scores = Dictionary(uniqueKeysWithValues: zip(catalogue.songs.map(\.id), catalogue.scores(for: affect)))
            assertClose(songs.map { scores[$0.id]! }, asked.scores)
        }
    }
}

private func assertClose(_ found: [Double], _ wanted: [Double], line: UInt = #line) {
    XCTAssertEqual(found.count, wanted.count, line: line)
    for (one, other) in zip(found, wanted) { XCTAssertEqual(one, other, accuracy: 1e-6, line: line) }
}

private func assertAlike(_ found: [UInt8], _ wanted: Data, line: UInt = #line) {
    XCTAssertEqual(found.count, wanted.count, line: line)
    for (one, other) in zip(found, wanted) where abs(Int(one) - Int(other)) > 1 {
        return XCTFail("\(one) where \(other) is wanted", line: line)
    }
}
